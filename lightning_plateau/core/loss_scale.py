"""By what factor a loss exceeds the mean of its terms: sums, weights, divisions."""

from __future__ import annotations

import math
from math import prod

from lightning_plateau.core.objective import Comparison, closing
from lightning_plateau.core.tape import CLASS_LOSSES, SHAPE_OPERATIONS, Operand, Operation, Tape

AGREEMENT = 0.1
"""Share of a loss that may be added to it before it counts as another loss."""
_SCALINGS = (
    frozenset({"mean", "sum", "div", "truediv", "itruediv", "mul", "multiply", "imul", "rmul"})
    | SHAPE_OPERATIONS
)
"""Operations that gather the terms of a loss, or multiply it by a number."""
_SQUARES = frozenset({"pow", "square", "mul"})
_MAGNITUDES = frozenset({"abs", "absolute"})


def loss_scale(tape: Tape, comparison: Comparison, accumulated: int = 1) -> float | None:
    """Return the loss of a step over the mean of the terms of ``comparison``.

    1 where the loss is that mean, up to a tenth that may be added to it; the number of terms where
    it is their sum. None where the loss is made of more than these terms, or nothing is known.
    The terms of a difference that is written by hand are its squares, or its magnitudes.

    Args:
        tape: A forward pass.
        comparison: The only comparison on it.
        accumulated: Micro-batches that a loss is divided by before backward.

    Example:
        >>> x, y = Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,))
        >>> made = Operation(0, "linear", shape=(8, 10))
        >>> loss = Operation(1, "cross_entropy", "", (x, y), attributes={"reduction": "sum"})
        >>> loss_scale(Tape(0, (made, loss), root=1), Comparison(loss, x, y))
        8.0
    """
    if comparison.by_hand:
        terms = raised(tape, comparison)
        return None if terms is None else _scaled(tape, terms, accumulated)
    terms, reduction = comparison.operation, comparison.operation.attributes.get("reduction")
    number = float(number_of_terms(comparison)) if reduction == "sum" else 1.0
    if reduction not in ("mean", None) and len(terms.operands) > 2:
        return None  # a mean is divided by the weights, a sum is not
    if reduction not in ("mean", "sum", None):
        return _scaled(tape, terms, accumulated) if reduction == "none" else None
    later = 1.0 if _is_whole(tape, terms, accumulated) else _scaled(tape, terms, accumulated)
    return None if later is None else number * later


def raised(tape: Tape, comparison: Comparison) -> Operation | None:
    """Return what makes terms of a difference by hand: its square, or its magnitude; or None."""
    index = comparison.operation.index
    users = _users(tape, index)
    if len(users) != 1:
        return None
    [user] = users
    squared = user.name in _SQUARES and user.attributes.get("exponent", 2) == 2
    itself = all(o.source == "operation" and o.index == index for o in user.operands)
    return user if itself and (squared or user.name in _MAGNITUDES) else None


def is_squared(tape: Tape, comparison: Comparison) -> bool:
    """Whether the terms of a difference that is written by hand are its squares."""
    terms = raised(tape, comparison)
    return terms is not None and terms.name in _SQUARES


def number_of_terms(comparison: Comparison) -> int:
    """Return how many terms a comparison has: one for each sample, pixel or number."""
    shape = comparison.prediction.shape
    if comparison.operation.name in CLASS_LOSSES and len(shape) > 1:
        return prod(shape) // max(1, shape[1])
    return prod(shape)


def _is_whole(tape: Tape, loss: Operation, accumulated: int) -> bool:
    """Whether the ``loss`` is all that backward started from, up to a tenth."""
    if tape.root is None or not 0 <= tape.root < len(tape) or tape.root == loss.index:
        return True
    part, whole = _mean(loss), _mean(tape.operations[tape.root]) * max(1, accumulated)
    return abs(whole - part) <= AGREEMENT * abs(part)


def _scaled(tape: Tape, terms: Operation, accumulated: int) -> float | None:
    """Return the loss over the mean of ``terms``, where nothing else went into it."""
    last = terms
    while last.index != tape.root:
        users = _users(tape, last.index)
        if len(users) != 1 or users[0].name not in _SCALINGS or len(users[0].operands) != 1:
            return None
        last = users[0]
    made = tape.origin(Operand("operation", last.index), SHAPE_OPERATIONS)
    ratio = _ratio(_mean(made) if made is not None else math.nan, _mean(terms))
    return ratio * max(1, accumulated) if 0.0 < ratio < math.inf else None


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole != 0.0 and math.isfinite(whole) else math.nan


def _mean(operation: Operation) -> float:
    return operation.statistics.get("mean", math.nan)


def _users(tape: Tape, index: int) -> list[Operation]:
    """Return what uses an output on the way to the loss; what is only logged does not count."""
    return [
        operation
        for operation in closing(tape)
        if any(o.source == "operation" and o.index == index for o in operation.operands)
    ]
