from __future__ import annotations

from lightning_plateau.core.roles import entries, shifted_leaf, whole_leaf
from lightning_plateau.core.tape import Operand, Operation, Tape

WEIGHT = Operand("parameter", name="fc.weight", shape=(4, 4))


def made(index: int, shape: tuple[int, ...] = (8, 4)) -> Operand:
    return Operand("operation", index, shape=shape)


def image(shape: tuple[int, ...] = (8, 4)) -> Operand:
    return Operand("batch", 0, "image", shape)


def test_through_shapes_the_leaf_is_known() -> None:
    tape = Tape(
        0,
        (
            Operation(0, "flatten", "", (image((8, 2, 2)),)),
            Operation(1, "linear", "fc", (made(0), WEIGHT)),
        ),
    )
    (entry,) = entries(tape)
    assert (entry.leaf, entry.source) == ("image", None)


def test_through_arithmetic_the_source_is_known() -> None:
    tape = Tape(
        0, (Operation(0, "div", "", (image(),)), Operation(1, "linear", "fc", (made(0), WEIGHT)))
    )
    (entry,) = entries(tape)
    assert entry.leaf == ""
    assert entry.source is not None
    assert (entry.source.name, entry.leaves) == ("div", {"image"})


def test_only_the_first_layer_is_an_entry() -> None:
    tape = Tape(
        0,
        (
            Operation(0, "linear", "a", (image(), WEIGHT)),
            Operation(1, "linear", "b", (made(0), WEIGHT)),
        ),
    )
    assert [entry.operation.layer for entry in entries(tape)] == ["a"]


def test_embedded_indices_are_no_entry() -> None:
    tape = Tape(
        0,
        (
            Operation(0, "embedding", "e", (image((8,)), WEIGHT)),
            Operation(1, "linear", "b", (made(0), WEIGHT)),
        ),
    )
    assert entries(tape) == ()


def test_weights_on_the_left() -> None:
    tape = Tape(0, (Operation(0, "matmul", "", (WEIGHT, image())),))
    assert [entry.leaf for entry in entries(tape)] == ["image"]


def test_noise_made_in_the_step_is_no_entry() -> None:
    tape = Tape(0, (Operation(0, "linear", "g", (Operand("other"), WEIGHT)),))
    assert entries(tape) == ()


def test_a_part_of_a_leaf_is_not_the_leaf() -> None:
    tape = Tape(0, (Operation(0, "getitem", "", (image((8, 9)),)),))
    assert whole_leaf(tape, made(0)) is None


def test_all_but_one_place_of_each_sequence() -> None:
    for shape, known in (((8, 32), True), ((256,), True), ((8, 31), False), ((8, 33), False)):
        tape = Tape(0, (Operation(0, "getitem", "", (image((8, 33)),), shape),))
        assert (shifted_leaf(tape, made(0, shape)) is not None) is known
