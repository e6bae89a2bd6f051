"""Where a series is going: its level, its noise, and whether it falls, rises or stays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.statistics import block_medians, mann_kendall, theil_sen
from lightning_plateau.core.statistics import noise as noise_from_step_to_step

BLOCKS = 20
SIGNIFICANT = 0.01
MATERIAL = 0.01
ABOUT_ZERO = 2.0
"""Standard deviations within which a level cannot be told from zero by its single values."""


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
        scale: What a change is compared with: the largest magnitude of a level; for values of both
            signs at least their spread.
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
        """Whether the recent change is worth speaking of: at least 1 % of the scale."""
        return abs(self.relative_change) > MATERIAL

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


_UNKNOWN = math.nan
NO_TREND = Trend(0, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN, 0.0, 1.0, 0.0)


def trend(series: Series | Floats) -> Trend:
    """Return the trend of the finite values of a scalar series.

    Example:
        >>> falling = trend(np.linspace(2.0, 1.0, 100))
        >>> falling.falling, round(falling.first, 2), round(falling.last, 2)
        (True, 1.98, 1.02)
    """
    if isinstance(series, Series):
        return _trend_of(series)
    values = finite_values(series)
    return _trend(values, value_noise(values))


@derived
def _trend_of(series: Series) -> Trend:
    return _trend(finite_values(series), noise_of(series))


def _trend(values: Floats, noise: float) -> Trend:
    if len(values) < 2:
        return NO_TREND
    levels = block_medians(values, min(BLOCKS, len(values)))
    recent = values[len(values) // 2 :]
    recent_levels = block_medians(recent, min(BLOCKS, len(recent)))
    slope = float(theil_sen(recent_levels)) if len(recent_levels) > 1 else 0.0
    return Trend(
        rows=len(values),
        first=float(levels[0]),
        last=float(levels[-1]),
        lowest=float(levels.min()),
        highest=float(levels.max()),
        noise=noise,
        change=slope * (len(recent_levels) - 1),
        p_value=float(mann_kendall(recent_levels).p_value),
        scale=_scale(levels),
    )


def loss_trend(history: History) -> Trend:
    """Return the trend of the training loss."""
    return trend(history[LOSS])


MAGNITUDE = 1e150
"""Larger values are clipped: differences of float64's extremes would overflow."""


def finite_values(series: Series | Floats) -> Floats:
    """Return the finite values of a scalar series, clipped to ±1e150, read-only."""
    if isinstance(series, Series):
        return _finite_values_of(series)
    return _finite_values(np.asarray(series, dtype=np.float64))


@derived
def _finite_values_of(series: Series) -> Floats:
    values = _finite_values(series.values)
    values.flags.writeable = False
    return values


def _finite_values(values: Floats) -> Floats:
    return np.clip(values[np.isfinite(values)], -MAGNITUDE, MAGNITUDE)


def value_noise(values: Floats) -> float:
    """Return the robust standard deviation of a value around its neighbours; 0 where unknown.

    Example:
        >>> value_noise(np.array([1.0]))
        0.0
    """
    return float(np.nan_to_num(noise_from_step_to_step(values)))


@derived
def noise_of(series: Series) -> float:
    """Return the same of the finite values of a series."""
    return value_noise(finite_values(series))


def noise_about_a_bend(values: Floats) -> float:
    """Return the same of a short series whose trend is bent: second differences are free of it.

    Example:
        >>> noise_about_a_bend(np.array([1.0, 0.5, 0.25, 0.125])) < 0.1
        True
    """
    return value_noise(np.diff(values)) / 3**0.5


def about_zero(series: Series | Floats) -> bool:
    """Whether a series takes both signs, and lies no farther from zero than its noise reaches.

    Such a loss is no measure of error but an estimate whose gradient alone means something: that
    of a policy, the score of a critic.

    Example:
        >>> about_zero(np.sin(17.0 * np.arange(200)) - 0.3)
        True
        >>> about_zero(np.sin(17.0 * np.arange(200)) - 3.0)
        False
    """
    values = finite_values(series)
    if not len(values) or not values.min() < 0 < values.max():
        return False
    level = float(np.median(values[-max(1, len(values) // 4) :]))
    return abs(level) < ABOUT_ZERO * value_noise(values)


def _scale(levels: Floats) -> float:
    largest = float(np.abs(levels).max())
    return largest if levels.min() >= 0 else max(largest, float(levels.max() - levels.min()))
