"""Long series made short enough to draw, without losing a peak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.history import Floats, Series, Steps

MOST_POINTS = 2000
FEWEST_TO_SMOOTH = 60
LARGEST = 1e150


@dataclass(frozen=True, eq=False)
class Curve:
    """A scalar series made short.

    Attributes:
        steps: int64 ``[n]``.
        lowest: Least finite value of each point's block of steps; NaN where there is none.
        highest: The greatest.
        smooth: Running median over about a thirtieth of the run; None for a short series.
    """

    steps: Steps
    lowest: Floats
    highest: Floats
    smooth: Floats | None

    @property
    def line(self) -> Floats:
        """What to draw as the line: the running median, or the values of a short series."""
        return self.highest if self.smooth is None else self.smooth


def curve(series: Series, most: int = MOST_POINTS) -> Curve:
    """Return what to draw of a scalar series, in at most ``most`` points.

    Example:
        >>> from lightning_plateau.core.signal import LOSS
        >>> long = curve(Series(LOSS, np.arange(10_000), np.sin(np.arange(10_000.0))))
        >>> len(long.steps), len(long.smooth)
        (2000, 2000)
    """
    values = drawable(series.values)
    size = max(1, -(-len(values) // most))
    blocks = np.full((-(-len(values) // size), size), np.nan)
    blocks.ravel()[: len(values)] = values
    known = np.isfinite(blocks).any(axis=1)
    lowest, middle, highest = (np.full(len(blocks), np.nan) for _ in range(3))
    lowest[known] = np.nanmin(blocks[known], axis=1)
    middle[known] = np.nanmedian(blocks[known], axis=1)
    highest[known] = np.nanmax(blocks[known], axis=1)
    smooth = _running_median(middle) if len(values) >= FEWEST_TO_SMOOTH else None
    return Curve(series.steps[::size], lowest, highest, smooth)


def drawable(values: Floats) -> Floats:
    """Return the values with what is not finite as gaps, and the rest within what an axis holds."""
    return np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), np.nan)


def _running_median(values: Floats) -> Floats:
    half = max(2, len(values) // 60)
    padded = np.pad(values, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    known = np.isfinite(windows).any(axis=1)
    median = np.full(len(values), np.nan)
    median[known] = np.nanmedian(windows[known], axis=1)
    # Where the series has a gap the line has one, and does not invent what was there.
    return np.where(np.isfinite(values), median, np.nan)
