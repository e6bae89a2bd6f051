"""Where a series is going: its level, its noise, and whether it falls, rises or stays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.statistics import block_medians, mann_kendall, noise, theil_sen
from lightning_plateau.core.tape import CLASS_LOSSES

BLOCKS = 20
SIGNIFICANT = 0.01
MATERIAL = 0.01


@dataclass(frozen=True, slots=True)
class Trend:
    """Level, noise and direction of a scalar series, free of its scale.

    The series is cut into at most 20 blocks, and each stands for its median, so that one spike
    moves nothing. Direction is judged on the recent half of the series.

    Attributes:
        rows: Finite values that the trend rests on.
        first: Level of the first block.
        last: Level of the last block.
        lowest: Level of the lowest block.
        highest: Level of the highest block.
        noise: Robust standard deviation of a single value around its neighbours.
        change: Expected change over the recent half (Theil–Sen slope times its length).
        p_value: Two-sided p-value of the Mann–Kendall test of the recent half.
        scale: What a change is compared with: the largest level where no value is negative, the
            range of the levels (or the noise, if larger) where values may be negative.
        total_change: ``last − first``.
    """

    rows: int
    first: float
    last: float
    lowest: float
    highest: float
    noise: float
    change: float
    p_value: float
    scale: float

    @property
    def total_change(self) -> float:
        """Change from the first block to the last."""
        return self.last - self.first

    @property
    def relative_change(self) -> float:
        """Expected change over the recent half, as a share of ``scale``."""
        return self.change / self.scale if self.scale > 0 else 0.0

    @property
    def progress(self) -> float:
        """How far the level fell from the first block to the lowest, as a share of ``scale``."""
        return (self.first - self.lowest) / self.scale if self.scale > 0 else 0.0

    @property
    def material(self) -> bool:
        """Whether the recent change is worth speaking of: 1 % of the scale, or thrice the noise."""
        size = abs(self.change)
        return size > MATERIAL * self.scale or (self.noise > 0 and size > 3 * self.noise)

    @property
    def significant(self) -> bool:
        """Whether the recent change is more than chance."""
        return self.p_value < SIGNIFICANT

    @property
    def falling(self) -> bool:
        """Whether the series is falling now, significantly and materially."""
        return self.significant and self.material and self.change < 0

    @property
    def rising(self) -> bool:
        """Whether the series is rising now, significantly and materially."""
        return self.significant and self.material and self.change > 0


NO_TREND = Trend(0, *([math.nan] * 5), 0.0, 1.0, 0.0)


def trend(series: Series | Floats) -> Trend:
    """Return the trend of the finite values of a scalar series.

    Example:
        >>> falling = trend(np.linspace(2.0, 1.0, 100))
        >>> falling.falling, round(falling.first, 2), round(falling.last, 2)
        (True, 1.98, 1.02)
    """
    values = series.values if isinstance(series, Series) else np.asarray(series, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return NO_TREND
    levels = block_medians(values, min(BLOCKS, len(values)))
    recent = values[len(values) // 2 :]
    recent_levels = block_medians(recent, min(BLOCKS, len(recent)))
    spread = float(levels.max() - levels.min())
    step_noise = float(noise(values))
    scale = float(np.abs(levels).max()) if values.min() >= 0 else max(spread, step_noise)
    return Trend(
        rows=len(values),
        first=float(levels[0]),
        last=float(levels[-1]),
        lowest=float(levels.min()),
        highest=float(levels.max()),
        noise=step_noise,
        change=float(theil_sen(recent_levels)) * (len(recent_levels) - 1),
        p_value=float(mann_kendall(recent_levels).p_value),
        scale=scale,
    )


def loss_trend(history: History) -> Trend:
    """Return the trend of the training loss."""
    return trend(history[LOSS])


def chance_loss(history: History) -> float | None:
    """Return ln K, the loss of a classifier that guesses, from the loss call; None if unknown."""
    for tape in history.tapes[::-1]:
        for loss in tape.losses:
            if loss.attributes.get("reduction", "mean") != "mean" or not loss.operands:
                continue
            shape = loss.operands[0].shape
            if loss.name in CLASS_LOSSES and shape:
                return math.log(max(2, shape[1] if len(shape) > 1 else shape[0]))
            if loss.name.startswith("binary_cross_entropy"):
                return math.log(2)
    return None
