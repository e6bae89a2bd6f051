"""How far a loss has risen above its best, for good."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History, Steps
from lightning_plateau.core.moving_target import has_bonus
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.statistics import block_medians
from lightning_plateau.core.trend import finite_values, noise_of, trend, value_noise

BLOCKS = 10
FEWEST_IN_BLOCK, FEWEST_BLOCKS = 8, 4
"""Losses to a level: those of fewer are at the mercy of a hard batch or two."""
FEW = 20
"""Losses that are too few for levels."""
LEAST_RISE = 0.1
"""Share of a loss by which it must rise for the rise to be of any account."""
LEAST_ABOVE = 0.9
"""Share of recent losses that lie above the best level where the loss has risen."""
LATEST, LAST = 20, 5
"""Losses that tell where the loss is, and where it is going."""
RECENT = 100
"""Losses that tell how large a rise chance explains."""


@dataclass(frozen=True, slots=True)
class Rise:
    """Where a loss started, was best and is now.

    Attributes:
        rows: Finite losses.
        start: The first loss.
        best: Lowest level of a tenth of the run before the last, or the first loss if that is
            lower beyond doubt.
        now: Level of the last tenth of the run.
        error: Standard error of ``now − best``.
        deviation: Robust standard deviation of one loss about its neighbours.
        signed: Whether some losses, or a term of them, are negative, so that the level itself is
            no scale.
        held: Whether the last losses are up there still, all but a few: neither one bad stretch
            that is over, nor a wider scatter about the same level.
        receding: Whether the loss is on its way down again.
        broke: Whether the losses end in NaN or infinity.
        explosion_step: First step at which the loss was ten times that of the start; None where
            it never was, or a loss was negative.
    """

    rows: int
    start: float
    best: float
    now: float
    error: float
    deviation: float
    signed: bool
    held: bool
    receding: bool
    broke: bool
    explosion_step: int | None

    @property
    def height(self) -> float:
        """How far the loss lies above its best."""
        return self.now - self.best


NO_RISE = Rise(0, 0.0, 0.0, 0.0, 0.0, 0.0, False, False, False, False, None)


@derived
def rise(history: History) -> Rise:
    """Return how far the training loss has risen.

    Example:
        >>> from lightning_plateau.testing import history
        >>> up = rise(history(loss=[2.0, 1.0, 2.0, 40.0, 900.0, float("inf")]))
        >>> up.best, up.now, up.broke, up.explosion_step
        (1.0, 900.0, True, 3)
    """
    series = history[LOSS]
    values = finite_values(series)
    if len(values) < 3:
        return NO_RISE
    levels = block_medians(values, min(BLOCKS, len(values) // _in_block(len(values))))
    best = int(np.argmin(levels[:-1]))
    after = values[best * len(values) // len(levels) :]
    tenth = max(1, len(values) // len(levels))
    deviation = noise_of(series)
    step_noise = value_noise(values[: max(3, len(values) - len(after))])
    error = 1.77 * step_noise / tenth**0.5
    lowest, start = float(levels[best]), float(values[0])
    # A loss that leaps at the first step leaves no low level behind but its first value.
    from_start = start < lowest - 4 * max(step_noise, deviation)
    low = start if from_start else lowest
    return Rise(
        rows=len(values),
        start=start,
        best=low,
        now=float(levels[-1]),
        error=error,
        deviation=deviation,
        signed=bool(values.min() < 0) or has_bonus(history),
        held=_held(values[-max(LAST, tenth // 2) :], low, float(levels[-1])),
        receding=float(levels[-1]) < 0.9 * float(levels[best:].max()) and trend(after).falling,
        broke=not np.isfinite(series.values[-1]),
        explosion_step=_explosion(series.steps[np.isfinite(series.values)], values),
    )


def rise_since(history: History, step: int, rows: int = LATEST) -> float:
    """Return by how much the loss has risen since ``step``, negative where it fell.

    NaN where it is not finite now, or nothing is known.

    Args:
        history: What was recorded.
        step: Optimizer step.
        rows: Losses that tell where the loss is now.

    Example:
        >>> from lightning_plateau.testing import history
        >>> rise_since(history(loss=[1.0] * 50 + [3.0] * 50), 50)
        2.0
    """
    now, before = history[LOSS].values[-rows:], history[LOSS].until(max(1, step))
    if not (len(now) and len(before)):
        return math.nan
    # A loss that was on its way up already had not been as low as its level says.
    then = max(float(np.median(before.tail(few).values)) for few in (LATEST, LAST))
    return float(np.median(now)) - then


def rising(history: History) -> bool:
    """Whether the last few losses lie above those before them by more than chance.

    Example:
        >>> from lightning_plateau.testing import history
        >>> rising(history(loss=[1.0] * 50 + [3.0] * 5)), rising(history(loss=[1.0] * 50))
        (True, False)
    """
    losses = history[LOSS]
    step = int(losses.steps[-LAST]) if len(losses) > LAST else 0
    last = np.median(losses.values[-LAST:]) if len(losses) else math.nan
    level = np.median(losses.until(max(1, step)).tail(LATEST).values) if step else math.nan
    return bool(last - level > chance_rise(history, step, rows=LAST))


def chance_rise(history: History, step: int, rows: int = LATEST) -> float:
    """Return the largest rise since ``step`` that noise explains, or that is of no account.

    Args:
        history: What was recorded.
        step: Optimizer step.
        rows: Losses that tell where the loss is now.

    Example:
        >>> from lightning_plateau.testing import history
        >>> chance_rise(history(loss=[1.0] * 50 + [3.0] * 50), 50)
        0.1
    """
    # What the loss did long ago, on its way down, is not what it does by chance now.
    before = history[LOSS].until(max(1, step)).tail(RECENT)
    error = 1.77 * value_noise(finite_values(before)) / rows**0.5
    level = float(np.median(before.tail(LATEST).values)) if len(before) else math.nan
    return max(4.0 * float(error), LEAST_RISE * abs(level))


def _held(recent: Floats, low: float, now: float) -> bool:
    """Whether nine in ten recent losses lie above ``low``, and the last few nearer to ``now``.

    Where the scatter of a loss has grown, its last values are on both sides of its best level.
    """
    above = float(np.mean(recent > low)) >= LEAST_ABOVE
    return above and float(np.median(recent[-LAST:])) > 0.5 * (low + now)


def _in_block(rows: int) -> int:
    """Return how many losses make a level at least; a few steps have no levels to speak of."""
    return max(1, min(FEWEST_IN_BLOCK, rows // FEWEST_BLOCKS)) if rows >= FEW else 1


def _explosion(steps: Steps, values: Floats) -> int | None:
    beyond = np.flatnonzero(values > 10 * max(float(values[0]), float(values[:3].min())))
    if not len(beyond) or values.min() < 0 or values[0] <= 0:
        return None
    return int(steps[beyond[0]])
