from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.signal import DATA_MAXIMUM, DATA_MINIMUM
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.labels_out_of_range import LabelsOutOfRange
from lightning_plateau.testing import history

BINARY = {"reduction": "mean", "weight": None}


def tape(
    lowest: float,
    highest: float,
    *,
    loss: str = "cross_entropy",
    scores: tuple[int, ...] = (8, 10),
    dtype: str = "int64",
    target: tuple[int, ...] = (8,),
    **attributes: Any,
) -> Tape:
    given = Operand("batch", 1, "label", target, dtype, {"minimum": lowest, "maximum": highest})
    return Tape(
        0,
        (
            Operation(0, "linear", "fc", (Operand("batch", 0, "image"),)),
            Operation(
                1, loss, "", (Operand("operation", 0, shape=scores), given), attributes=attributes
            ),
        ),
    )


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        pytest.param(tape(0, 10), "11 outputs", id="one class too many"),
        pytest.param(tape(1, 10), "subtract 1", id="labels from 1"),
        pytest.param(tape(-1, 9), "ignore_index=-1", id="padding of -1"),
        pytest.param(tape(0, 255, ignore_index=-100), "256 outputs", id="void label"),
        pytest.param(tape(0, 1, scores=(8, 1)), "2 outputs", id="one output"),
        pytest.param(tape(0, 21, scores=(2, 21, 4, 4), target=(2, 4, 4)), "22", id="segmentation"),
        pytest.param(tape(0, 10, scores=(10,), target=()), "11 outputs", id="one sample"),
        pytest.param(tape(0, 10, loss="nll_loss"), "11 outputs", id="nll"),
        pytest.param(
            tape(-1, 1, loss="binary_cross_entropy_with_logits", dtype="float32", **BINARY),
            "(y + 1) / 2",
            id="signs into a binary loss",
        ),
        pytest.param(
            tape(0, 255, loss="binary_cross_entropy", dtype="float32", **BINARY),
            "scale the targets",
            id="pixels into a binary loss",
        ),
    ],
)
def test_certain_from_the_loss_call(given: Tape, fix: str) -> None:
    finding = LabelsOutOfRange().check(history(tapes=[given]))
    assert finding is not None
    assert finding.certain
    assert fix in finding.fix


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(tape(0, 9), id="in range"),
        pytest.param(tape(-100, 9), id="ignored by default"),
        pytest.param(tape(0, 255, ignore_index=255), id="void is ignored"),
        pytest.param(tape(0, 1, dtype="float32", target=(8, 10)), id="probabilities"),
        pytest.param(tape(-3, 90, loss="mse_loss", dtype="float32"), id="regression"),
        pytest.param(
            tape(0, 1, loss="binary_cross_entropy_with_logits", dtype="float32", **BINARY),
            id="binary",
        ),
        pytest.param(
            tape(-1, 1, loss="binary_cross_entropy_with_logits", reduction="none", weight=None),
            id="masked by hand",
        ),
        pytest.param(
            tape(-1, 1, loss="binary_cross_entropy_with_logits", reduction="mean"),
            id="weighted",
        ),
        pytest.param(tape(float("nan"), float("nan")), id="not measured"),
        pytest.param(Tape(0, (Operation(0, "cross_entropy"),)), id="no operands"),
    ],
)
def test_is_silent(given: Tape) -> None:
    assert LabelsOutOfRange().check(history(tapes=[given])) is None


def batches(*highest: float) -> dict[Any, Any]:
    return {DATA_MINIMUM: {"label": [0.0] * len(highest)}, DATA_MAXIMUM: {"label": list(highest)}}


def test_names_the_batch_that_killed_the_run() -> None:
    run = history(batches(9, 9, 12), loss=[2.3] * 50, every=25, tapes=[tape(0, 9)])
    finding = LabelsOutOfRange().check(run)
    assert finding is not None
    assert (finding.step, finding.evidence[0].value) == (50, 12.0)


@pytest.mark.parametrize(
    ("highest", "steps"),
    [
        pytest.param((9, 9, 12), 51, id="the run went on"),
        pytest.param((9, 12, 12), 50, id="mapped by the code all along"),
        pytest.param((12,), 0, id="first batch: the loss call itself was in range"),
        pytest.param((9, 9, 9), 50, id="died of something else"),
    ],
)
def test_labels_of_a_batch_that_the_code_may_map(highest: tuple[float, ...], steps: int) -> None:
    run = history(batches(*highest), loss=[2.3] * steps, every=25, tapes=[tape(0, 9)])
    assert LabelsOutOfRange().check(run) is None


def test_a_part_of_a_batch_tensor_says_nothing_of_the_rest() -> None:
    given = tape(0, 9, target=(8,)).operations
    label = Operand("operation", 1, "", (8,), "int64", {"minimum": 0.0, "maximum": 9.0})
    table = Operand("batch", 1, "label", (8, 5), "int64")
    sliced = Tape(
        0,
        (
            given[0],
            Operation(1, "getitem", "", (table,), (8,)),
            Operation(2, "cross_entropy", "", (given[1].operands[0], label)),
        ),
    )
    run = history(batches(9, 9, 300), loss=[2.3] * 50, every=25, tapes=[sliced])
    assert LabelsOutOfRange().check(run) is None


@pytest.mark.parametrize(
    ("loss", "tensors"),
    [("cosine_embedding_loss", 2), ("margin_ranking_loss", 2), ("soft_margin_loss", 1)],
)
def test_zeros_and_ones_where_signs_are_read(loss: str, tensors: int) -> None:
    for lowest, whole, found in ((0.0, 1.0, True), (-1.0, 1.0, False), (0.0, 0.0, False)):
        seen = {"minimum": lowest, "maximum": 1.0, "integer": whole}
        scores = (Operand("operation", 0, shape=(8,)),) * tensors
        sides = (*scores, Operand("batch", 1, "label", (8,), statistics=seen))
        run = history(tapes=[Tape(0, (Operation(0, "linear"), Operation(1, loss, "", sides)))])
        told = LabelsOutOfRange().check(run)
        assert (told is not None) is found
        assert told is None or (told.certain and "2 * y - 1" in told.fix)


@pytest.mark.parametrize(
    ("labels", "lowest", "found"), [(5, 0.0, True), (5, -1.0, False), (2, 0.0, False)]
)
def test_zeros_and_ones_where_lists_of_labels_are_read(
    labels: int, lowest: float, *, found: bool
) -> None:
    seen = {"minimum": lowest, "maximum": 1.0, "integer": 1.0}
    sides = (
        Operand("operation", 0, shape=(8, labels)),
        Operand("batch", 1, "label", (8, labels), statistics=seen),
    )
    loss = Operation(1, "multilabel_margin_loss", "", sides)
    told = LabelsOutOfRange().check(history(tapes=[Tape(0, (Operation(0, "linear"), loss))]))
    assert (told is not None) is found
    assert told is None or (told.certain and "binary_cross_entropy_with_logits" in told.fix)
