"""Roles of the batch's tensors: which enters the network, and through which operation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from lightning_plateau.core.derived import derived
from lightning_plateau.core.objective import comparisons, parametric_operations
from lightning_plateau.core.tape import (
    LINEAR_OPERATIONS,
    RECURRENCES,
    SHAPE_OPERATIONS,
    Operand,
    Operation,
    Tape,
)

_LAYERS = LINEAR_OPERATIONS | RECURRENCES


@dataclass(frozen=True, slots=True)
class Entry:
    """A place where data meets the first weights.

    Attributes:
        operation: The first linear, convolutional or recurrent operation on the data's way.
        operand: What it was given.
        leaves: Paths of the batch's tensors that the operand was computed from.
        source: The operation that gave the operand its values; None where it is ``leaf`` itself.
        leaf: Path of the tensor that the operand is, but for shape and type; ``""`` where it was
            computed.
    """

    operation: Operation
    operand: Operand
    leaves: frozenset[str]
    source: Operation | None = None
    leaf: str = ""


@derived
def entries(tape: Tape) -> tuple[Entry, ...]:
    """Return every place where data of the batch meets its first weights, in call order.

    Data that goes through an embedding has met weights there, as indices, and is not listed.

    Example:
        >>> x, weight = Operand("batch", 0, "image"), Operand("parameter", name="fc.weight")
        >>> tape = Tape(0, (Operation(0, "linear", "fc", (x, weight)),))
        >>> [(entry.leaf, entry.operation.site) for entry in entries(tape)]
        [('image', 'fc (linear)')]
    """
    parametric = parametric_operations(tape)
    leaves: dict[int, frozenset[str]] = {}
    found: list[Entry] = []
    for index in sorted({*range(len(tape))} - parametric):
        origins = (_leaves_of(operand, leaves) for operand in tape.operations[index].operands)
        leaves[index] = frozenset[str]().union(*origins)
    for operation in tape.named(_LAYERS):
        for operand in operation.operands if operation.index in parametric else ():
            origin = _leaves_of(operand, leaves)
            if origin:
                found.append(_entry(tape, operation, operand, origin))
                break
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Sides:
    """The batch's tensors on the two sides of the loss, by their paths.

    Attributes:
        inputs: Those that predictions are made from and targets are not.
        labels: Those that targets are made from and predictions are not.
    """

    inputs: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()


@derived
def sides(tape: Tape) -> Sides:
    """Return which tensors of the batch are inputs alone, and which are labels alone.

    Example:
        >>> x, weight = Operand("batch", 0, "image"), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (8, 10))
        >>> both = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "label", (8,)))
        >>> found = sides(Tape(0, (fc, Operation(1, "cross_entropy", "", both)), root=1))
        >>> sorted(found.inputs), sorted(found.labels)
        (['image'], ['label'])
    """
    predicting: set[str] = set()
    aimed_at: set[str] = set()
    for comparison in comparisons(tape):
        predicting |= _leaves_behind(tape, comparison.prediction)
        aimed_at |= _leaves_behind(tape, comparison.target)
    return Sides(frozenset(predicting - aimed_at), frozenset(aimed_at - predicting))


def _leaves_behind(tape: Tape, operand: Operand) -> set[str]:
    """Return the batch's tensors that ``operand`` was computed from, weights or not."""
    if operand.source == "batch":
        return {operand.name}
    operation = tape.producer(operand)
    if operation is None:
        return set()
    return {
        o.name for made in tape.ancestors(operation) for o in made.operands if o.source == "batch"
    }


def whole_leaf(tape: Tape, operand: Operand) -> Operand | None:
    """Return the batch's tensor that ``operand`` is all of; None where it is none, or a part."""
    leaf = tape.from_batch(operand)
    return leaf if leaf is not None and prod(leaf.shape) == prod(operand.shape) else None


def shifted_leaf(tape: Tape, operand: Operand) -> Operand | None:
    """Return the batch's tensor that ``operand`` is all of but one place along one dimension.

    So are the targets of a language model, ``x[:, 1:]``: the values are those of the whole tensor.

    Example:
        >>> x = Operand("batch", 0, "0", (8, 33))
        >>> shifted = Operation(0, "getitem", operands=(x,), shape=(8, 32))
        >>> shifted_leaf(Tape(0, (shifted,)), Operand("operation", 0, shape=(8, 32))).name
        '0'
    """
    leaf = tape.from_batch(operand)
    if leaf is None or len(leaf.shape) < 2:
        return None
    left, whole = prod(operand.shape), prod(leaf.shape)
    shifted = any(left == whole // places * (places - 1) for places in leaf.shape[1:] if places > 1)
    return leaf if shifted else None


def _entry(tape: Tape, operation: Operation, operand: Operand, leaves: frozenset[str]) -> Entry:
    leaf = whole_leaf(tape, operand)
    source = tape.origin(operand, SHAPE_OPERATIONS)
    return Entry(operation, operand, leaves, source, leaf.name if leaf is not None else "")


def _leaves_of(operand: Operand, leaves: dict[int, frozenset[str]]) -> frozenset[str]:
    if operand.source == "operation":
        return leaves.get(operand.index, frozenset())
    return frozenset({operand.name}) if operand.source == "batch" else frozenset()
