"""The sign with which a loss function enters the loss: whether training makes it smaller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from lightning_plateau.core.objective import CLOSING_OPERATIONS
from lightning_plateau.core.tape import LOSSES, SHAPE_OPERATIONS, Operation, Tape

LIKELIHOODS = frozenset({"log_softmax", "logsigmoid"})
"""Logarithms of probabilities: a loss is made of their negatives."""

_PICKING = frozenset({"gather", "getitem", "index_select", "take_along_dim", "diag", "diagonal"})
_DIFFERENCES = frozenset({"sub", "subtract", "isub"})
_PRODUCTS = frozenset({"mul", "multiply", "rmul", "imul", "div", "divide", "truediv", "itruediv"})
_PROPORTIONAL = (
    SHAPE_OPERATIONS
    | _DIFFERENCES
    | _PRODUCTS
    | frozenset({"mean", "sum", "nanmean", "nansum", "neg", "negative", "add", "iadd", "rsub"})
)
"""Operations whose result grows with what they are given, given plain numbers beside it."""
_EVEN = frozenset({"abs", "absolute", "pow", "square", "norm", "vector_norm", "cosh", "var", "std"})
"""Operations that forget the sign."""


def signs(tape: Tape) -> dict[int, frozenset[int]]:
    """Return the signs, −1 and 1, with which loss functions and log-probabilities enter the loss.

    By the index of their operation. What is squared on the way, or leaves plain arithmetic, is not
    followed.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> x, y = Operand("batch", 0, "0", (8, 3)), Operand("batch", 1, "1", (8,))
        >>> loss = Operation(0, "cross_entropy", "", (x, y))
        >>> negated = Operation(1, "neg", "", (Operand("operation", 0),))
        >>> signs(Tape(0, (loss, negated), root=1))
        {0: frozenset({-1})}
    """
    if tape.root is None or not 0 <= tape.root < len(tape):
        return {}
    wanted: dict[int, set[int]] = defaultdict(set)
    wanted[tape.root].add(1)
    found = {}
    for index in range(tape.root, -1, -1):
        if index not in wanted:
            continue
        operation = tape.operations[index]
        if operation.name in LOSSES | LIKELIHOODS:
            found[index] = frozenset(wanted[index])
        else:
            for sign in wanted[index]:
                for before, passed in _before(operation, sign):
                    wanted[before].add(passed)
    return found


def proportional(tape: Tape) -> frozenset[int]:
    """Return the operations that the loss grows with in proportion, however large they become.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> x, y = Operand("batch", 0, "0", (8,)), Operand("batch", 1, "1", (8,))
        >>> gap = Operation(0, "sub", "", (x, y), (8,))
        >>> mean = Operation(1, "mean", "", (Operand("operation", 0),))
        >>> square = Operation(1, "square", "", (Operand("operation", 0),))
        >>> 0 in proportional(Tape(0, (gap, mean), root=1))
        True
        >>> 0 in proportional(Tape(0, (gap, square), root=1))
        False
    """
    if tape.root is None or not 0 <= tape.root < len(tape):
        return frozenset()
    wanted = {tape.root}
    for index in range(tape.root, -1, -1):
        operation = tape.operations[index]
        if index not in wanted or operation.name not in _PROPORTIONAL:
            continue
        if operation.name not in _PRODUCTS or len(operation.operands) == 1:
            wanted.update(o.index for o in operation.operands if o.source == "operation")
    return frozenset(wanted)


def _before(operation: Operation, sign: int) -> Iterator[tuple[int, int]]:
    """Yield the operations that ``operation`` was made of, each with its sign."""
    name = operation.name
    if name not in CLOSING_OPERATIONS | _PICKING or name in _EVEN:
        return
    flipped = name in ("neg", "negative", "rsub") or (name in _PRODUCTS and _is_negative(operation))
    for position, operand in enumerate(operation.operands):
        if operand.source == "operation":
            subtracted = name in _DIFFERENCES and position == 1
            yield operand.index, -sign if flipped or subtracted else sign


def _is_negative(operation: Operation) -> bool:
    """Whether a product has a negative number in it."""
    factors = operation.attributes.values()
    return any(isinstance(f, int | float) and not isinstance(f, bool) and f < 0 for f in factors)
