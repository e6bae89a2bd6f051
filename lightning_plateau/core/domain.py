"""Operations whose domain has an edge, and how near to it a call came."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lightning_plateau.core.tape import Operation

Reach = Literal["near", "at", "beyond"]

LOGARITHMS = frozenset({"log", "log2", "log10"})
_DIVISIONS = frozenset({"div", "truediv", "true_divide", "divide", "idiv", "itruediv"})
_RECIPROCALS = frozenset({"reciprocal", "rdiv", "rtruediv"})
_ARCS = frozenset({"acos", "arccos", "asin", "arcsin", "atanh", "arctanh", "erfinv"})
_EXPONENTIALS = frozenset({"exp", "expm1", "cosh", "sinh"})

EDGED = (
    LOGARITHMS
    | _DIVISIONS
    | _RECIPROCALS
    | _ARCS
    | _EXPONENTIALS
    | frozenset({"log1p", "sqrt", "rsqrt", "pow", "float_power", "logit"})
)
"""Operations that are finite, or have a finite derivative, on a part of the numbers only."""

NEAR_ZERO = 1e-10
NEAR_ROOT = 1e-16
NEAR_ONE = 1e-7
NEAR_OVERFLOW = 0.9
"""Distances from an edge, and the share of the largest exponent, that count as near."""

_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895e38, "float64": 1.7976931348623157e308}
LARGEST_FLOAT32 = 3.4028e38


def largest(dtype: str) -> float:
    """Return the largest finite number of a floating-point type, by its short name.

    Example:
        >>> largest("float16")
        65504.0
    """
    return _LARGEST.get(dtype, LARGEST_FLOAT32)


@dataclass(frozen=True, slots=True)
class Brink:
    """A call near, at or beyond the edge of an operation's domain.

    Attributes:
        reach: ``"beyond"`` the result is NaN or infinite; ``"at"`` the derivative is, and the
            result may be; ``"near"`` they are huge.
        value: The operand's value that lies nearest to the edge.
        edge: Where the edge lies.
        fix: What to write in place of it.
    """

    reach: Reach
    value: float
    edge: float
    fix: str


def brink(operation: Operation) -> Brink | None:
    """Return how near ``operation`` came to the edge of its domain; None where it is far from it.

    It rests on the statistics of the operands, and is None where they were not taken.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> x = Operand("batch", statistics={"minimum": 0.0, "maximum": 1.0, "smallest": 0.0})
        >>> found = brink(Operation(0, "sqrt", operands=(x,)))
        >>> found.reach, found.value
        ('at', 0.0)
    """
    judge = _JUDGES.get(operation.name)
    return None if judge is None else judge(operation)


def _statistic(operation: Operation, position: int, name: str) -> float:
    operands = operation.operands
    return operands[position].statistics.get(name, math.nan) if operands else math.nan


def _reach(distance: float, near: float) -> Reach | None:
    """Return how far within the domain a value lies, ``distance`` from its edge; None for far."""
    if distance < 0:
        return "beyond"
    if distance == 0:
        return "at"
    return "near" if distance < near else None


def _from_below(edge: float, near: float, fix: str) -> Callable[[Operation], Brink | None]:
    """Judge an operation whose operand must be greater than ``edge``."""

    def judge(operation: Operation) -> Brink | None:
        lowest = _statistic(operation, 0, "minimum")
        reach = _reach(lowest - edge, near)
        return None if reach is None else Brink(reach, lowest, edge, fix)

    return judge


def _zero(operation: Operation, position: int) -> Brink | None:
    """Judge an operand that must not be zero."""
    smallest = _statistic(operation, position, "smallest")
    reach = _reach(smallest, NEAR_ZERO)
    fix = "add an epsilon to the denominator, or clamp it away from 0"
    return None if reach is None else Brink(reach, smallest, 0.0, fix)


def _division(operation: Operation) -> Brink | None:
    if len(operation.operands) > 1:
        return _zero(operation, 1)
    by = operation.attributes.get("other", operation.attributes.get("arg1"))
    if isinstance(by, int | float) and by == 0:
        return Brink("at", 0.0, 0.0, "the divisor is the number 0: look where it comes from")
    return None


def _power(operation: Operation) -> Brink | None:
    exponent = operation.attributes.get("exponent")
    if len(operation.operands) > 1 or not isinstance(exponent, int | float):
        return None
    if exponent < 0:
        return _zero(operation, 0)
    if not math.isfinite(exponent) or exponent == int(exponent):
        return None
    lowest = _statistic(operation, 0, "minimum")
    reach = _reach(lowest, NEAR_ROOT)
    if reach is None or (exponent > 1 and reach != "beyond"):
        return None
    return Brink(reach, lowest, 0.0, "add an epsilon to the base, or clamp it above 0")


def _within_one(operation: Operation) -> Brink | None:
    lowest, highest = _statistic(operation, 0, "minimum"), _statistic(operation, 0, "maximum")
    value = highest if highest >= -lowest else lowest
    reach = _reach(1.0 - abs(value), NEAR_ONE)
    fix = "clamp the operand: x.clamp(-1 + 1e-6, 1 - 1e-6)"
    return None if reach is None else Brink(reach, value, math.copysign(1.0, value), fix)


def _logit(operation: Operation) -> Brink | None:
    if operation.attributes.get("eps") is not None:
        return None
    lowest, highest = _statistic(operation, 0, "minimum"), _statistic(operation, 0, "maximum")
    value, edge = (lowest, 0.0) if lowest <= 1.0 - highest else (highest, 1.0)
    reach = _reach(min(lowest, 1.0 - highest), NEAR_ONE)
    return None if reach is None else Brink(reach, value, edge, "torch.logit(x, eps=1e-6)")


def _exponential(operation: Operation) -> Brink | None:
    highest, edge = _statistic(operation, 0, "maximum"), math.log(largest(operation.dtype))
    if operation.name in ("cosh", "sinh"):
        highest = max(highest, -_statistic(operation, 0, "minimum"))
    if not highest > NEAR_OVERFLOW * edge or math.isinf(highest):
        return None
    reach: Reach = "beyond" if highest > edge else "near"
    fix = "subtract the maximum first (torch.logsumexp, softmax), or clamp what goes in"
    return Brink(reach, highest, edge, fix)


_LOGARITHM = _from_below(
    0.0,
    NEAR_ZERO,
    "torch.log(x.clamp_min(1e-8)); better log_softmax, logsigmoid or a loss that takes logits",
)
_ROOT = _from_below(0.0, NEAR_ROOT, "add an epsilon inside: torch.sqrt(x + 1e-8)")

_JUDGES: Mapping[str, Callable[[Operation], Brink | None]] = {
    **dict.fromkeys(LOGARITHMS, _LOGARITHM),
    **dict.fromkeys(_DIVISIONS, _division),
    **dict.fromkeys(_RECIPROCALS, lambda operation: _zero(operation, 0)),
    **dict.fromkeys(_ARCS, _within_one),
    **dict.fromkeys(_EXPONENTIALS, _exponential),
    "log1p": _from_below(-1.0, NEAR_ZERO, "clamp what goes into log1p above -1"),
    "sqrt": _ROOT,
    "rsqrt": _ROOT,
    "pow": _power,
    "float_power": _power,
    "logit": _logit,
}
