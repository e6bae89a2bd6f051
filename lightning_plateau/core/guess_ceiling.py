"""What the best constant guess does not exceed, where its very loss is unknown."""

from __future__ import annotations

import math

import numpy as np

from lightning_plateau.core.chance import guessing
from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.loss_scale import is_squared, loss_scale
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.tape import Tape

_MAGNITUDES = frozenset({"l1_loss", "smooth_l1_loss"})
"""Losses of which no term exceeds the distance to its target."""


@derived
def guess_ceiling(history: History) -> float | None:
    """Return a loss that the best constant guess does not exceed; None where none is known.

    It is the loss of guessing where that is known. The mean distance of targets to their median is
    at most their standard deviation, and the terms of a Huber loss at most its delta times as much.

    Example:
        >>> guess_ceiling(History()) is None
        True
    """
    guess = guessing(history)
    if guess is not None:
        return guess.loss if 0.0 < guess.loss < math.inf else None
    accumulated = history.profile.accumulate_grad_batches
    known = [_ceiling(tape, accumulated) for tape in history.tapes]
    found = [one for one in known if one is not None and 0.0 < one < math.inf]
    return float(np.median(found)) if found and len(found) == len(known) else None


def _ceiling(tape: Tape, accumulated: int) -> float | None:
    found = [one for one in comparisons(tape) if one.prediction.source == "operation"]
    if len(found) != 1:
        return None
    [comparison] = found
    delta = _delta(tape, comparison)
    scale = loss_scale(tape, comparison, accumulated)
    if delta is None or scale is None:
        return None
    return delta * comparison.target.statistics.get("std", math.nan) * scale


def _delta(tape: Tape, comparison: Comparison) -> float | None:
    """Return what a term is at most, as a multiple of the distance; None where it has no limit."""
    name = comparison.operation.name
    if comparison.by_hand:
        return None if is_squared(tape, comparison) else 1.0
    if name == "huber_loss":
        delta = comparison.operation.attributes.get("delta", 1.0)
        return float(delta) if isinstance(delta, int | float) else None
    return 1.0 if name in _MAGNITUDES else None
