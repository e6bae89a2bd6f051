"""What the loss of a variational autoencoder adds for its code, read off the tape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lightning_plateau.core.derived import derived
from lightning_plateau.core.objective import Comparison, comparisons, parametric_operations
from lightning_plateau.core.penalty import terms
from lightning_plateau.core.tape import Operation, Tape

_NOISE = frozenset({"randn_like", "randn", "normal", "rand_like", "rand"})
_PRODUCTS = frozenset({"mul", "multiply", "imul", "addcmul"})


@dataclass(frozen=True, slots=True)
class CodeTerm:
    """The term of a loss that keeps a noisy code near its prior.

    Attributes:
        operation: The operation that made the term.
        share: Share of the term in the loss, from 0 to 1.
        differing: How much answers differ over the samples, in that of the targets.
    """

    operation: Operation
    share: float
    differing: float


@derived
def code_term(tape: Tape) -> CodeTerm | None:
    """Return the term of a code that noise was scaled and added to; None where there is none.

    The loss is a sum: one part compares answers with targets, another is computed from what scales
    the noise, and compares nothing.

    Example:
        >>> code_term(Tape(0)) is None
        True
    """
    if tape.root is None or not 0 <= tape.root < len(tape):
        return None
    compared = comparisons(tape)
    scales = _scales(tape, compared)
    summands = terms(tape, tape.root) if scales else {}
    whole = sum(abs(size) for size in summands.values())
    for index, size in summands.items():
        made = {one.index for one in tape.ancestors(tape.operations[index])}
        tells = made.isdisjoint(one.operation.index for one in compared) and made & scales
        if tells and 0 < whole < math.inf:
            return CodeTerm(tape.operations[index], abs(size) / whole, _differing(compared))
    return None


def _scales(tape: Tape, compared: tuple[Comparison, ...]) -> frozenset[int]:
    """Return the operations with weights behind the factor of noise on the way to an answer."""
    if tape.names.isdisjoint(_NOISE):
        return frozenset()
    parametric, found = parametric_operations(tape), set[int]()
    for operation in _behind(tape, compared):
        sides = [one for o in operation.operands if (one := tape.producer(o)) is not None]
        factors = [one for one in sides if one.name not in _NOISE]
        if operation.name in _PRODUCTS and len(factors) < len(sides):
            behind = {one.index for side in factors for one in tape.ancestors(side)}
            found |= behind & parametric
    return frozenset(found)


def _behind(tape: Tape, compared: tuple[Comparison, ...]) -> Iterator[Operation]:
    """Yield what the answers were computed by."""
    for one in compared:
        made = tape.producer(one.prediction)
        if made is not None:
            yield from tape.ancestors(made)


def _differing(compared: tuple[Comparison, ...]) -> float:
    """Return how much answers differ in that of the targets: the most of all comparisons."""
    shares = [
        one.prediction.statistics.get("column_std", math.inf) / wanted
        for one in compared
        if (wanted := one.target.statistics.get("column_std", 0.0)) > 0
    ]
    return max(shares, default=math.inf)
