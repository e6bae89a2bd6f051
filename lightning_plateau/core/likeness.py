"""Likeness of predictions and targets, as losses that are written by hand measure it: products."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from lightning_plateau.core.derived import derived
from lightning_plateau.core.objective import (
    CLOSING_OPERATIONS,
    is_parametric,
    parametric_operations,
)
from lightning_plateau.core.roles import entries
from lightning_plateau.core.tape import SHAPE_OPERATIONS, Operand, Operation, Tape

_PRODUCTS = frozenset({"mul", "multiply", "imul"})
_QUOTIENTS = frozenset({"div", "divide", "truediv", "itruediv"})
_FLIPPING = frozenset({"neg", "negative", "rsub", "rtruediv"})
_DIFFERENCES = frozenset({"sub", "subtract", "isub"})
_EVEN = frozenset({"abs", "absolute", "pow", "square", "norm", "vector_norm", "cosh"})
_COSINES = frozenset({"cosine_similarity"})
_RECODING = SHAPE_OPERATIONS | {"one_hot"}


@dataclass(frozen=True, slots=True)
class Likeness:
    """A product of a prediction and a target, or their cosine, on the way to the loss.

    Attributes:
        operation: The product.
        signs: −1 where the loss falls as the product grows, 1 where it grows with it.
        correlation: Correlation of the two over the batch, or the mean cosine; NaN where unknown.
    """

    operation: Operation
    signs: frozenset[int]
    correlation: float

    @property
    def is_cosine(self) -> bool:
        """Whether it is a cosine, for which 0 need not be what guessing gives."""
        return self.operation.name in _COSINES


@derived
def likenesses(tape: Tape) -> tuple[Likeness, ...]:
    """Return how predictions and targets in 0 … 1 meet in the loss, where only products of them do.

    Empty where targets come in by other ways as well, so that the products alone say nothing.

    Example:
        >>> x, weight = Operand("batch", 0, "0"), Operand("parameter", name="w")
        >>> p = Operand("operation", 0, "", (8, 4), statistics={"mean": 0.5, "std": 0.1})
        >>> seen = {"mean": 0.5, "std": 0.5, "minimum": 0.0, "maximum": 1.0}
        >>> y = Operand("batch", 1, "1", (8, 4), statistics=seen)
        >>> made = Operation(0, "linear", "", (x, weight), (8, 4))
        >>> product = Operation(1, "mul", "", (p, y), (8, 4), statistics={"mean": 0.225})
        >>> loss = Operation(2, "mean", "", (Operand("operation", 1, "", (8, 4)),))
        >>> [found] = likenesses(Tape(0, (made, product, loss), root=2))
        >>> round(found.correlation, 3), found.signs
        (-0.5, frozenset({1}))
    """
    parametric, given = parametric_operations(tape), _inputs(tape)
    found = []
    for operation, signs in _reached(tape):
        sides = _sides(operation, parametric)
        if sides is None or operation.name not in _PRODUCTS | _COSINES:
            continue
        prediction, other = sides
        leaves = _leaves(tape, other)
        if not leaves:
            continue
        target = tape.from_batch(other, _RECODING)
        if target is None or target.name in given or target.name in _leaves(tape, prediction):
            return ()
        if operation.name in _PRODUCTS and not _is_share(prediction, other):
            return ()
        found.append(Likeness(operation, signs, _correlation(operation, prediction, other)))
    return tuple(found)


def _reached(tape: Tape) -> Iterator[tuple[Operation, frozenset[int]]]:
    """Yield what the loss is made of by arithmetic, latest first, with the signs it enters with."""
    if tape.root is None or not 0 <= tape.root < len(tape):
        return
    wanted: dict[int, set[int]] = defaultdict(set)
    wanted[tape.root].add(1)
    for index in range(tape.root, -1, -1):
        if index in wanted:
            operation = tape.operations[index]
            yield operation, frozenset(wanted[index])
            for before, sign in _before(operation):
                wanted[before].update(sign * one for one in wanted[index])


def _before(operation: Operation) -> Iterator[tuple[int, int]]:
    """Yield the operations that ``operation`` was made of, with the sign each is given."""
    name, operands = operation.name, operation.operands
    if name not in CLOSING_OPERATIONS or name in _EVEN:
        return
    if name in _QUOTIENTS:
        operands = operands[:1]  # what is divided by only sets the scale
    flipped = name in _FLIPPING or (name in _PRODUCTS | _QUOTIENTS and _by_negative(operation))
    for position, operand in enumerate(operands):
        if operand.source == "operation":
            subtracted = name in _DIFFERENCES and position == 1
            yield operand.index, -1 if flipped or subtracted else 1


def _by_negative(operation: Operation) -> bool:
    factors = operation.attributes.values()
    return any(isinstance(f, int | float) and not isinstance(f, bool) and f < 0 for f in factors)


def _sides(operation: Operation, parametric: frozenset[int]) -> tuple[Operand, Operand] | None:
    """Return the operand that uses parameters and the one that does not; None where unclear."""
    if len(operation.operands) != 2:
        return None
    first, second = operation.operands
    heavy = is_parametric(first, parametric), is_parametric(second, parametric)
    return {(True, False): (first, second), (False, True): (second, first)}.get(heavy)


def _is_share(prediction: Operand, target: Operand) -> bool:
    """Whether a target has the shape of its prediction, and marks what is there by 0 … 1."""
    seen = target.statistics
    marks = 0.0 <= seen.get("minimum", -1.0) <= seen.get("maximum", 2.0) <= 1.0
    return marks and prediction.shape == target.shape and seen.get("std", 0.0) > 0.0


def _inputs(tape: Tape) -> frozenset[str]:
    return frozenset[str]().union(*(entry.leaves for entry in entries(tape)))


def _leaves(tape: Tape, operand: Operand) -> frozenset[str]:
    """Return the batch's tensors that ``operand`` was computed from."""
    made = tape.producer(operand)
    if made is None:
        return frozenset({operand.name}) if operand.source == "batch" else frozenset()
    behind = (o for one in tape.ancestors(made) for o in one.operands)
    return frozenset(o.name for o in behind if o.source == "batch")


def _correlation(operation: Operation, prediction: Operand, target: Operand) -> float:
    together = operation.statistics.get("mean", math.nan)
    if operation.name in _COSINES:
        return together
    means = [one.statistics.get("mean", math.nan) for one in (prediction, target)]
    spread = math.prod(one.statistics.get("std", math.nan) for one in (prediction, target))
    if not 0.0 < spread < math.inf:
        return math.nan
    return min(1.0, max(-1.0, (together - means[0] * means[1]) / spread))
