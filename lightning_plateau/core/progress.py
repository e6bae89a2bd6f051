"""How far a loss has come down since the start, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.statistics import block_medians, mann_kendall, theil_sen
from lightning_plateau.core.trend import BLOCKS, SIGNIFICANT, finite_values, noise_of, value_noise

HIDDEN = 0.1
"""Share of a loss that is much to have come down by unseen."""
CERTAIN_ERRORS = 2.5
"""Standard errors that a fall must exceed: several beginnings are tried, so more than two."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median in units of that of a mean, for normal noise."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The fall of a series from its start to now, between two bounds, free of scale.

    The start is read at several lengths (the first value, the first three, … the first quarter),
    because a loss may fall within a few steps; the level now is the median of the last quarter.
    Falls are shares of ``scale`` and negative where the series rose.

    Attributes:
        rows: Finite values.
        start: Level of the beginning that shows the surest fall.
        now: Level of the last quarter.
        noise: Robust standard deviation of one value.
        scale: The larger magnitude of ``start`` and ``now``; at least their distance.
        least: Fall that is beyond doubt, the noise considered.
        most: Fall between the first quarter and the last that the noise may hide.
        slope: Theil–Sen slope over all values as a share of ``scale`` a value, 0 where chance
            explains it.
    """

    rows: int
    start: float
    now: float
    noise: float
    scale: float
    least: float
    most: float
    slope: float

    @property
    def fall(self) -> float:
        """Best guess of the fall, as a share of ``scale``."""
        return (self.start - self.now) / self.scale if self.scale > 0 else 0.0


NO_PROGRESS = Progress(0, math.nan, math.nan, 0.0, 0.0, 0.0, 0.0, 0.0)


def progress(series: Series | Floats) -> Progress:
    """Return how far a scalar series has fallen.

    Example:
        >>> gone = progress(np.linspace(2.0, 1.0, 100))
        >>> round(gone.fall, 2), round(gone.least, 2)
        (0.44, 0.44)
        >>> stuck = progress(2.3 + 0.1 * np.sin(17.0 * np.arange(200)))
        >>> stuck.least < 0.0 < stuck.most < 0.05
        True
    """
    if isinstance(series, Series):
        return _progress_of(series)
    values = finite_values(series)
    return _progress(values, value_noise(values))


def hidden_by_noise(history: History) -> bool:
    """Whether a loss that seems to stand still may have come down by a tenth, and noise hides it.

    A batch that is mostly noise takes long to show what was learned.

    Example:
        >>> from lightning_plateau.testing import history
        >>> noise = np.random.default_rng(0).normal(1.0, 0.15, 2000)
        >>> hidden_by_noise(history(loss=noise[:40])), hidden_by_noise(history(loss=noise))
        (True, False)
    """
    gone = progress(history[LOSS])
    return gone.most > HIDDEN and abs(gone.fall) < gone.most


@derived
def _progress_of(series: Series) -> Progress:
    return _progress(finite_values(series), noise_of(series))


def _progress(values: Floats, deviation: float) -> Progress:
    if len(values) < 4:
        return NO_PROGRESS
    quarter = max(1, len(values) // 4)
    now = float(np.median(values[-quarter:]))
    lengths = sorted({length for length in (1, 3, 10, quarter) if length <= quarter})
    starts = [float(np.median(values[:length])) for length in lengths]
    errors = [MEDIAN_ERROR * deviation * math.sqrt(1 / length + 1 / quarter) for length in lengths]
    sure = [
        (start - now - CERTAIN_ERRORS * error, start)
        for start, error in zip(starts, errors, strict=True)
    ]
    least, start = max(sure)
    scale = max(abs(start), abs(now), abs(start - now))
    unit = scale if scale > 0 else 1.0
    return Progress(
        rows=len(values),
        start=start,
        now=now,
        noise=deviation,
        scale=scale,
        least=least / unit,
        most=(starts[-1] - now + 2 * errors[-1]) / unit,
        slope=_recent_slope(values) / unit,
    )


def _recent_slope(values: Floats) -> float:
    """Return the slope of the recent half or of all, whichever is the surer; 0 where chance is."""
    for part in (values[len(values) // 2 :], values):
        levels = block_medians(part, min(BLOCKS, len(part)))
        if len(levels) >= 5 and mann_kendall(levels).p_value < SIGNIFICANT:
            return float(theil_sen(levels)) * len(levels) / len(part)
    return 0.0
