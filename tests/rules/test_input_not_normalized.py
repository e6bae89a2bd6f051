from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import DATA_MAXIMUM, DATA_MEAN, DATA_MINIMUM, DATA_STD
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.input_not_normalized import InputNotNormalized
from lightning_plateau.testing import history

NAN = float("nan")
WEIGHT = Operand("parameter", name="fc.weight", shape=(4, 4))
IMAGE = Operand("batch", 0, "image", (8, 4))


def made(index: int) -> Operand:
    return Operand("operation", index, shape=(8, 4))


def batch(mean: float, std: float, minimum: float = -3.0, maximum: float = 3.0) -> dict[Any, Any]:
    values = {DATA_MEAN: mean, DATA_STD: std, DATA_MINIMUM: minimum, DATA_MAXIMUM: maximum}
    return {signal: {"image": [value] * 3} for signal, value in values.items()}


PLAIN = (Operation(0, "flatten", "", (IMAGE,)), Operation(1, "linear", "fc", (made(0), WEIGHT)))
PIXELS = batch(33.0, 79.0, 0.0, 255.0)


def run(series: dict[Any, Any], *operations: Operation) -> History:
    return history(series, tapes=[Tape(0, operations)])


@pytest.mark.parametrize(
    ("series", "mean", "std"),
    [
        pytest.param(PIXELS, 33.0, 79.0, id="pixels"),
        pytest.param(batch(0.0, 1e5), 0.0, 1e5, id="wild"),
        pytest.param(batch(0.0, 1e-4), 0.0, 1e-4, id="tiny"),
        pytest.param(batch(2000.0, 9.0), 2000.0, 9.0, id="years"),
    ],
)
def test_names_the_layer_and_the_numbers(series: dict[Any, Any], mean: float, std: float) -> None:
    finding = InputNotNormalized().check(run(series, *PLAIN))
    assert finding is not None
    assert finding.where == "fc (linear)"
    assert (finding.evidence[0].value, finding.evidence[1].value) == (std, mean)
    assert not finding.certain


def test_pixels_are_recognized() -> None:
    finding = InputNotNormalized().check(run(PIXELS, *PLAIN))
    assert finding is not None
    assert "255" in finding.fix


@pytest.mark.parametrize(
    "series",
    [
        pytest.param(batch(0.0, 1.0), id="standardized"),
        pytest.param(batch(0.13, 0.31, 0.0, 1.0), id="to tensor"),
        pytest.param(batch(0.01, 0.1, 0.0, 1.0), id="sparse"),
        pytest.param(batch(1.0, 0.5, 0.0, 2.0), id="counts"),
        pytest.param(batch(7.0, 0.0, 7.0, 7.0), id="constant"),
        pytest.param(batch(NAN, NAN, NAN, NAN), id="not measured"),
        pytest.param({}, id="no data"),
    ],
)
def test_is_silent_on_inputs_of_sound_scale(series: dict[Any, Any]) -> None:
    assert InputNotNormalized().check(run(series, *PLAIN)) is None


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param(
            (
                Operation(0, "div", "", (IMAGE,), statistics={"mean": 0.13, "std": 0.31}),
                Operation(1, "linear", "fc", (made(0), WEIGHT)),
            ),
            id="scaled in training_step",
        ),
        pytest.param(
            (
                Operation(0, "batch_norm", "bn", (IMAGE,), statistics={"mean": 0.0, "std": 1.0}),
                Operation(1, "linear", "fc", (made(0), WEIGHT)),
            ),
            id="normalized by the model",
        ),
        pytest.param(
            (
                Operation(0, "conv2d", "conv", (IMAGE, WEIGHT)),
                Operation(1, "batch_norm", "bn", (made(0),)),
            ),
            id="the scale cancels in the normalization that follows",
        ),
        pytest.param(
            (
                Operation(0, "embedding", "e", (IMAGE, WEIGHT)),
                Operation(1, "linear", "fc", (made(0), WEIGHT)),
            ),
            id="indices",
        ),
        pytest.param((), id="empty tape"),
    ],
)
def test_is_silent_where_the_layer_sees_something_else(operations: tuple[Operation, ...]) -> None:
    assert InputNotNormalized().check(run(PIXELS, *operations)) is None


def test_judges_what_the_step_makes_of_the_batch() -> None:
    wild = Operation(0, "mul", "", (IMAGE,), statistics={"mean": 0.0, "std": 5000.0})
    layer = Operation(1, "linear", "fc", (made(0), WEIGHT))
    finding = InputNotNormalized().check(run(batch(0.0, 1.0), wild, layer))
    assert finding is not None
    assert finding.evidence[0].where == "image"


def test_without_a_tape_it_says_nothing() -> None:
    assert InputNotNormalized().check(history(PIXELS)) is None
