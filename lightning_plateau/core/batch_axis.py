"""The batch's axis: which dimension of each tensor on the tape counts the samples."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from lightning_plateau.core.derived import derived
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.tape import SHAPE_OPERATIONS, Operand, Operation, Tape

SPLITTING = frozenset({"view", "reshape", "flatten", "unflatten", "view_as", "reshape_as"})
"""Operations that read the same values in the same order with other dimensions."""

_PERMUTING = frozenset({"transpose", "swapaxes", "t", "permute", "movedim", "getitem", "select"})
_APPENDING = frozenset({"embedding", "one_hot"})
_REDUCING = frozenset({"mean", "sum", "amax", "amin", "max", "min", "std", "var", "norm"})
Shape = tuple[int, ...]


@derived
def samples(tape: Tape) -> int:
    """Return how many samples the batch has, each with a target of its own; 0 where unknown."""
    sizes = {
        leaf.shape[0]
        for one in comparisons(tape)
        if (leaf := tape.from_batch(one.target)) is not None and leaf.shape
    }
    return sizes.pop() if len(sizes) == 1 else 0


@derived
def batch_axes(tape: Tape) -> Mapping[int, int]:
    """Return the dimension that counts samples, by operation; those not known are left out.

    Example:
        >>> x, weight = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="w")
        >>> fc = Operation(0, "linear", "", (x, weight), (8, 3))
        >>> answers, y = Operand("operation", 0, shape=(8, 3)), Operand("batch", 1, "1", (8,))
        >>> loss = Operation(1, "cross_entropy", "", (answers, y))
        >>> batch_axes(Tape(0, (fc, loss), root=1))
        {0: 0}
    """
    size = samples(tape)
    axes: dict[int, int] = {}
    if size < 2:
        return axes
    for operation in tape:
        axis = _axis_of_output(operation, size, axes)
        if axis is not None:
            axes[operation.index] = axis
    return axes


def axis_of(operand: Operand, size: int, axes: Mapping[int, int]) -> int | None:
    """Return the dimension of ``operand`` that counts the ``size`` samples; None where unknown."""
    shape = operand.shape
    if operand.source == "operation":
        axis = axes.get(operand.index)
        return axis if axis is not None and axis < len(shape) and shape[axis] == size else None
    if operand.source != "batch" or not shape or shape[0] != size:
        return None
    # Time before samples, and as many of them, looks the same.
    return None if len(shape) > 2 and shape[1] == size else 0


def straddles(before: Shape, axis: int, after: Shape, size: int) -> bool:
    """Whether reading ``before`` as ``after`` puts parts of several samples where samples belong.

    Example:
        >>> straddles((32, 10, 8), 0, (10, 32, 8), 32), straddles((32, 10, 8), 0, (320, 8), 32)
        (True, False)
        >>> straddles((64, 32), 1, (32, 64), 32)  # x.t().reshape(32, 64)
        True
    """
    start = prod(before[:axis])
    if start > 1 and after[:1] == (size,) and before.count(size) == after.count(size) == 1:
        return True
    end = start * size
    position = 1
    for extent in after:
        following = position * extent
        if extent == size and start < position < end < following:
            return True
        position = following
    return False


def _axis_of_output(operation: Operation, size: int, axes: Mapping[int, int]) -> int | None:
    for operand in operation.operands:
        axis = axis_of(operand, size, axes)
        if axis is not None:
            return _moved(operation, operand.shape, axis, size)
    return None


def _moved(operation: Operation, before: Shape, axis: int, size: int) -> int | None:
    after = operation.shape
    if operation.name in _APPENDING:
        return axis
    if operation.name in SPLITTING:
        return _split(before, axis, after, size)
    if operation.name in _PERMUTING or len(after) != len(before):
        # What was moved where is not on the tape in every spelling; sizes tell, if they differ.
        known = operation.name in SHAPE_OPERATIONS | _REDUCING and after.count(size) == 1
        return after.index(size) if known and before.count(size) == 1 else None
    return axis if after[axis] == size else None


def _split(before: Shape, axis: int, after: Shape, size: int) -> int | None:
    start, position = prod(before[:axis]), 1
    for place, extent in enumerate(after):
        if position == start and extent == size:
            return place
        position *= extent
    return None
