"""Where a non-finite value was born: the first operation on a tape that made one."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.domain import EDGED
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import computing
from lightning_plateau.core.signal import EXPERIMENT_REPLAY_BATCH, PARAMETER_NORMS
from lightning_plateau.core.tape import Operand, Operation, Tape

_MASKS = frozenset(
    ["masked_fill", "where", "full", "full_like", "new_full", "fill", "triu", "tril", "setitem"]
)


@derived
def first_non_finite(tape: Tape) -> Operation | None:
    """Return the first operation on the loss's way whose output holds NaN or infinity, or None.

    A −inf that rules something out (a mask, and what is added to it) is no fault; one that a
    logarithm makes of a prediction is.

    Example:
        >>> bad = {"non_finite": 1.0, "minimum": float("nan"), "maximum": float("nan")}
        >>> tape = Tape(0, (Operation(0, "sqrt", statistics=bad),), root=0)
        >>> first_non_finite(tape).name
        'sqrt'
    """
    return next((o for o in computing(tape) if _broken(o) and not _ruled_out(o)), None)


def broken_operands(tape: Tape, operation: Operation) -> Iterator[Operand]:
    """Yield the operands of ``operation`` that are known to hold NaN or infinity."""
    for operand in operation.operands:
        producer = tape.producer(operand)
        made_so = producer is not None and _broken(producer)
        if made_so or operand.statistics.get("non_finite", 0.0) > 0:
            yield operand


def _broken(operation: Operation) -> bool:
    return operation.statistics.get("non_finite", 0.0) > 0


def _ruled_out(operation: Operation) -> bool:
    """Whether the output holds no worse than a −inf that was put there on purpose."""
    lowest = operation.statistics.get("minimum", math.nan)
    highest = operation.statistics.get("maximum", math.nan)
    if not math.isfinite(highest) and highest != -math.inf:
        return False
    if operation.name in _MASKS:
        return not math.isnan(lowest)
    return lowest == -math.inf and not (operation.name in EDGED and operation.requires_grad)


def replayed(history: History, direction: str) -> tuple[int, str] | None:
    """Return step and place where a replay of the forward and backward pass first broke, or None.

    Where weights are not finite, a replay only shows the first use of them.

    Args:
        history: What was recorded.
        direction: ``"forward"`` or ``"backward"``.

    Example:
        >>> from lightning_plateau.testing import history
        >>> tried = {EXPERIMENT_REPLAY_BATCH: {"backward: SqrtBackward0": [1.0]}}
        >>> weights = {PARAMETER_NORMS: {"fc.weight": [2.0]}}
        >>> replayed(history({**tried, **weights}), "backward")
        (0, 'SqrtBackward0')
    """
    series, norms = history[EXPERIMENT_REPLAY_BATCH], history[PARAMETER_NORMS]
    if not len(series) or not len(norms) or not np.isfinite(norms.last_row).all():
        return None
    places = [label for label, hit in zip(series.labels, series.last_row, strict=True) if hit == 1]
    found = next((place for place in places if place.startswith(f"{direction}: ")), None)
    return None if found is None else (int(series.steps[-1]), found.removeprefix(f"{direction}: "))
