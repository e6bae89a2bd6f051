"""Scales: from values to heights of a plot, and the values to write beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.history import Floats
from lightning_plateau.report.curves import drawable
from lightning_plateau.report.phrases import number

WORTH_A_LOG_SCALE = 10.0
MOST_TICKS = 5


@dataclass(frozen=True, slots=True)
class Tick:
    """A value beside the axis: its height, 0 (bottom) … 1, and what to write there."""

    height: float
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """What an axis of values spans.

    Attributes:
        low: Value at the bottom.
        high: Value at the top, larger than ``low``.
        log: Whether distances are those of logarithms; then both are positive.
    """

    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def heights(self, values: Floats) -> Floats:
        """Return the height of each value, 0 … 1; NaN where there is none.

        Example:
            >>> Scale(1.0, 100.0, log=True).heights(np.array([10.0, 1000.0, 0.0, np.nan]))
            array([0.5, 1. , 0. , nan])
        """
        if not self.log:
            share = (values - self.low) / (self.high - self.low)
        else:
            bottom, top = math.log(self.low), math.log(self.high)
            safe = np.where(values > 0, values, np.where(np.isnan(values), np.nan, self.low))
            share = (np.log(safe) - bottom) / (top - bottom)
        return np.clip(share, 0.0, 1.0)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """The values to write beside the axis, from bottom to top.

        Example:
            >>> [tick.text for tick in Scale(0.5, 200.0, log=True).ticks]
            ['1', '10', '100']
        """
        values = _powers(self.low, self.high) if self.log else _steps(self.low, self.high)
        heights = self.heights(np.array(values))
        return tuple(Tick(float(h), number(v)) for h, v in zip(heights, values, strict=True))


def scale_of(*values: Floats) -> Scale:
    """Return the scale for ``values``: logarithmic where they are positive and span a decade.

    Example:
        >>> scale_of(np.array([1.0, 50.0])).log, scale_of(np.array([-1.0, 50.0])).log
        (True, False)
    """
    known = drawable(np.concatenate([np.ravel(v) for v in values] or [np.empty(0)]))
    known = known[~np.isnan(known)]
    if not len(known):
        return Scale()
    positive = known[known > 0]
    one_sign = len(positive) > 0 and not (known < 0).any()
    if one_sign and positive.max() / WORTH_A_LOG_SCALE > positive.min():
        # A few values that are tiny or have exploded must not press all others into an edge.
        low = float(max(positive.min(), np.quantile(positive, 0.01) / 100))
        high = float(min(positive.max(), np.quantile(positive, 0.95) * 1000))
        return Scale(low / 1.3, high * 1.3, log=True)
    low, high = float(known.min()), float(known.max())
    room = 0.06 * (high - low) or abs(high) or 1.0
    return Scale(low - room, high + room)


def _powers(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last <= first:
        return [
            v for e in (first - 1, first) for m in (1, 2, 5) if low <= (v := m * 10.0**e) <= high
        ]
    every = -(-(last - first + 1) // MOST_TICKS)
    return [10.0**exponent for exponent in range(first, last + 1, every)]


def _steps(low: float, high: float) -> list[float]:
    raw = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    size = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    return [size * k for k in range(math.ceil(low / size), math.floor(high / size) + 1)]
