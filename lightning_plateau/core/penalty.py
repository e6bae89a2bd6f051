"""Penalties: terms of a loss that are made of parameters alone, read off the tape."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_plateau.core.derived import derived
from lightning_plateau.core.objective import parametric_operations
from lightning_plateau.core.tape import (
    LINEAR_OPERATIONS,
    RECURRENCES,
    Operation,
    Tape,
)

_SUMS = frozenset({"add", "iadd", "sub", "isub"})
_LAYERS = LINEAR_OPERATIONS | RECURRENCES
_SCALES = frozenset(
    ["mul", "imul", "multiply", "div", "truediv", "itruediv", "divide", "neg", "clone", "to"]
)


@dataclass(frozen=True, slots=True)
class Penalty:
    """What a loss adds to that of the data.

    Attributes:
        operation: The operation that made the largest penalty.
        size: Sum of the penalties, as they enter the loss; at least 0.
        rest: What is left of the loss without them.
        beside: Indices of the operations that made the rest.
    """

    operation: Operation
    size: float
    rest: float
    beside: tuple[int, ...] = ()

    @property
    def share(self) -> float:
        """Share of the penalties in the loss, between 0 and 1."""
        whole = self.size + abs(self.rest)
        return self.size / whole if whole > 0 else 0.0


@derived
def penalty(tape: Tape) -> Penalty | None:
    """Return the terms of the loss that depend on parameters and on no data; None for none.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> value = lambda mean: {"mean": mean}
        >>> x, weight = Operand("batch", 0, "0"), Operand("parameter", name="fc.weight")
        >>> loss = Operation(0, "mse_loss", "", (x, weight), statistics=value(2.0))
        >>> norm = Operation(1, "norm", "", (weight,), statistics=value(6.0))
        >>> both = Operand("operation", 0), Operand("operation", 1)
        >>> total = Operation(2, "add", "", both, statistics=value(8.0))
        >>> penalty(Tape(0, (loss, norm, total), root=2)).share
        0.75
    """
    if tape.root is None or not 0 <= tape.root < len(tape):
        return None
    summands = terms(tape, tape.root)
    parametric = parametric_operations(tape)
    fed = {index for index in summands if _is_fed(tape, index, parametric)}
    found = {index: size for index, size in summands.items() if index in parametric - fed}
    size = sum(abs(one) for one in found.values())
    beside = tuple(index for index in summands if index in fed)
    rest = sum(summands[index] for index in beside)
    if not found or not math.isfinite(size) or not math.isfinite(rest):
        return None
    largest = max(found, key=lambda index: abs(found[index]))
    return Penalty(tape.operations[largest], size, rest, beside)


def _is_fed(tape: Tape, index: int, parametric: frozenset[int]) -> bool:
    """Whether data went into an operation, or something unknown that may have been data.

    What the program makes itself (points at which an equation must hold) is data once a layer
    takes it; a zero to which norms are added is none.
    """
    before = tape.ancestors(tape.operations[index])
    return any(_takes_data(operation, parametric) for operation in before)


def _takes_data(operation: Operation, parametric: frozenset[int]) -> bool:
    answers = operation.name in _LAYERS
    return any(
        answers and operand.index not in parametric
        if operand.source == "operation"
        else operand.source != "parameter"
        for operand in operation.operands
    )


def terms(tape: Tape, root: int) -> dict[int, float]:
    """Return the summands that ``root`` is made of and their sizes, constant factors included."""
    summands: dict[int, float] = {}
    factors = {root: 1.0}
    for index in range(root, -1, -1):
        if not factors:
            break
        factor = factors.pop(index, None)
        if factor is None:
            continue
        operation = tape.operations[index]
        parts = _parts(tape, operation)
        if not parts:
            summands[index] = factor * _value(operation)
        for part, share in parts:
            factors[part] = factors.get(part, 0.0) + factor * share
    return summands


def _parts(tape: Tape, operation: Operation) -> list[tuple[int, float]]:
    """Return what a sum or a scaled number is made of, with factors; nothing for other calls."""
    made = [o.index for o in operation.operands if o.source == "operation"]
    if math.prod(operation.shape) != 1 or not 1 <= len(made) == len(operation.operands):
        return []
    if operation.name in _SUMS:
        sign = -1.0 if operation.name in ("sub", "isub") else 1.0
        return [(index, sign if place else 1.0) for place, index in enumerate(made)]
    if operation.name in _SCALES and len(made) == 1:
        inner = _value(tape.operations[made[0]])
        return [(made[0], _value(operation) / inner if inner else 0.0)]
    return []


def _value(operation: Operation) -> float:
    return operation.statistics.get("mean", math.nan)
