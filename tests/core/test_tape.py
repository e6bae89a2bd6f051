from __future__ import annotations

import json

import pytest

from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.tape import Operand, Operation, Tape


def made(index: int) -> Operand:
    return Operand("operation", index)


IMAGE, LABEL = Operand("batch", 0, "image"), Operand("batch", 1, "label")
WEIGHT = Operand("parameter", name="fc.weight")

TAPE = Tape(
    0,
    (
        Operation(0, "flatten", "", (IMAGE,)),
        Operation(1, "linear", "fc", (made(0), WEIGHT)),
        Operation(2, "dropout", "drop", (made(1),)),
        Operation(3, "view", "", (made(2),)),
        Operation(4, "long", "", (LABEL,)),
        Operation(5, "to", "", (LABEL,)),
        Operation(6, "cross_entropy", "", (made(3), made(5))),
        Operation(7, "mse_loss", "", (made(1), LABEL)),
    ),
    root=6,
)


def names(operations: tuple[Operation, ...]) -> list[str]:
    return [operation.name for operation in operations]


def test_producer() -> None:
    assert TAPE.producer(made(1)) is TAPE.operations[1]
    for outside in (IMAGE, WEIGHT, Operand("buffer"), Operand("other")):
        assert TAPE.producer(outside) is None


def test_ancestors_come_latest_first_and_once() -> None:
    loss = TAPE.operations[6]
    assert names(TAPE.ancestors(loss)) == [
        "cross_entropy",
        "to",
        "view",
        "dropout",
        "linear",
        "flatten",
    ]


def test_origin_walks_through_shapes_and_dropout() -> None:
    origin = TAPE.origin(made(3))
    assert origin is not None
    assert origin.name == "linear"
    narrow = TAPE.origin(made(3), frozenset({"view"}))
    assert narrow is not None
    assert narrow.name == "dropout"
    assert TAPE.origin(made(0)) is None, "the values come from the batch"
    assert TAPE.origin(IMAGE) is None


def test_from_batch_knows_the_leaf_through_shapes_only() -> None:
    assert TAPE.from_batch(made(5)) == LABEL
    assert TAPE.from_batch(made(0)) == IMAGE
    assert TAPE.from_batch(IMAGE) == IMAGE
    assert TAPE.from_batch(made(1)) is None
    assert TAPE.from_batch(WEIGHT) is None


@pytest.mark.parametrize(
    ("operand", "depends"),
    [(made(3), True), (made(0), False), (WEIGHT, True), (LABEL, False), (Operand("other"), False)],
)
def test_depends_on_parameters(operand: Operand, depends: bool) -> None:
    assert TAPE.depends_on_parameters(operand) is depends


@pytest.mark.parametrize(
    ("root", "losses"),
    [
        (6, ["cross_entropy"]),
        (7, ["mse_loss"]),
        (None, ["cross_entropy", "mse_loss"]),
        (-1, ["cross_entropy", "mse_loss"]),
        (1, []),
    ],
)
def test_losses_are_those_that_backward_started_from(root: int | None, losses: list[str]) -> None:
    assert names(Tape(0, TAPE.operations, root).losses) == losses


def test_an_empty_tape_answers() -> None:
    empty = Tape(0)
    assert (len(empty), list(empty), empty.losses) == (0, [], ())


def test_site_is_a_name_for_people() -> None:
    assert TAPE.operations[1].site == "fc (linear)"
    assert TAPE.operations[6].site == "cross_entropy"


def test_round_trip_through_strict_json() -> None:
    assert from_plain(Tape, json.loads(json.dumps(to_plain(TAPE), allow_nan=False))) == TAPE


def test_finite_looks_through_what_only_moves_values() -> None:
    broken = Operation(0, "mean", statistics={"non_finite": 1.0})
    moved = Operation(1, "squeeze", operands=(Operand("operation", 0),))
    assert not Tape(0, (broken, moved), root=1).finite
    assert Tape(0, (broken, moved), root=-1).finite
    assert Tape(0, (broken, moved)).finite
    assert Tape(0, (Operation(0, "squeeze"),), root=0).finite
