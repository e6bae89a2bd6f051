"""Trends: the Theil–Sen slope and the Mann–Kendall test."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from lightning_plateau.core.statistics.medians import median, thin
from lightning_plateau.core.statistics.series import (
    FloatArray,
    finite,
    flat,
    rescaled,
    to_unit_scale,
)

# Pairwise statistics cost n²/2; at 200 values that is 19 900 pairs and well under a millisecond.
_PAIRWISE_LIMIT = 200


@dataclass(frozen=True, slots=True)
class MannKendall:
    """Outcome of the Mann-Kendall test for a monotone trend.

    Attributes:
        s: Rising pairs minus falling pairs, in ``[-n(n-1)/2, n(n-1)/2]``.
        z: Standard score of ``s``, corrected for ties and continuity; negative means falling.
        p_value: Two-sided probability in ``[0, 1]`` of so large a ``|z|`` without any trend.
        tau: Kendall's tau-b of the values against time, in ``[-1, 1]``.
    """

    s: int
    z: float
    p_value: float
    tau: float


def theil_sen(y: ArrayLike, x: ArrayLike | None = None) -> float:
    """Robust slope: the median of the slopes through every pair of points.

    Up to 29 % of the points may be arbitrarily wrong before the slope is. The result is exact up to
    200 finite points; a longer series is first thinned to 200 block medians of both ``x`` and
    ``y``, for which ``x`` should not decrease.

    Args:
        y: Values of shape ``(n,)``.
        x: Positions of shape ``(n,)``; the index, gaps of dropped values included, when omitted.
            Pairs at the same position have no slope and do not count.

    Returns:
        Slope in units of ``y`` per unit of ``x``; NaN with fewer than two distinct positions.

    Example:
        >>> theil_sen([1.0, 3.0, 5.0, 700.0, 9.0])
        2.0

    References:
        Theil, 1950, "A rank-invariant method of linear and polynomial regression analysis".
        Sen, 1968, "Estimates of the regression coefficient based on Kendall's tau".
    """
    series = flat(y)
    series, positions = finite(series, np.arange(series.size) if x is None else x)
    series, rise = to_unit_scale(thin(series, _PAIRWISE_LIMIT))
    positions, run = to_unit_scale(thin(positions, _PAIRWISE_LIMIT))
    return rescaled(median(_pairwise_slopes(series, positions)), rise - run)


def mann_kendall(y: ArrayLike) -> MannKendall:
    """Test whether a series tends to rise or to fall, whatever the shape of the trend.

    The normal approximation is good from about 10 values. It assumes independent values: a
    serially correlated series, such as a smoothed loss, makes the p-value too small; thin it
    first. A series above 200 finite values is itself thinned to 200 block medians.

    Args:
        y: Values of shape ``(n,)``, in the order of time.

    Returns:
        The outcome. Without evidence (fewer than two values, or all equal) it is ``s = 0``,
        ``z = 0``, ``p_value = 1``, ``tau = 0``.

    Example:
        >>> outcome = mann_kendall([9.0, 7.0, 8.0, 5.0, 4.0, 3.0, 3.5, 1.0])
        >>> outcome.s, round(outcome.z, 3), round(outcome.p_value, 4), round(outcome.tau, 3)
        (-24, -2.846, 0.0044, -0.857)

    References:
        Mann, 1945, "Nonparametric tests against trend".
        Kendall, 1975, "Rank Correlation Methods" (correction for ties).
    """
    series = thin(finite(y), _PAIRWISE_LIMIT)
    count = series.size
    pairs = count * (count - 1) // 2
    ties = np.unique(series, return_counts=True)[1]
    untied_pairs = pairs - int((ties * (ties - 1)).sum()) // 2
    rising_pairs = int(np.count_nonzero(np.triu(series > series[:, np.newaxis])))
    s = 2 * rising_pairs - untied_pairs  # pairs that do not rise and are not tied, fall
    if s == 0:
        return MannKendall(s=0, z=0.0, p_value=1.0, tau=0.0)
    tied = int((ties * (ties - 1) * (2 * ties + 5)).sum())
    variance = (count * (count - 1) * (2 * count + 5) - tied) / 18
    z = (s - math.copysign(1, s)) / math.sqrt(variance)
    tau = s / math.sqrt(pairs * untied_pairs)
    return MannKendall(s=s, z=z, p_value=math.erfc(abs(z) / math.sqrt(2)), tau=tau)


def _pairwise_slopes(y: FloatArray, x: FloatArray) -> FloatArray:
    """Slope through every pair of points once, pairs at the same position left out.

    Shifting a series round by 1 to n/2 places meets each pair once, by views instead of the gathers
    that index pairs would cost. For even n the shift by n/2 meets its pairs twice, and the second
    half of it is cut off.
    """
    count = y.size
    if count < 2:
        return np.empty(0)
    shifts = count // 2
    shifted_y = sliding_window_view(np.concatenate([y, y])[1:], count)[:shifts]
    shifted_x = sliding_window_view(np.concatenate([x, x])[1:], count)[:shifts]
    slopes = np.empty((shifts, count))
    # In two halves: allocators give blocks above 128 KiB back to the system after each call, and
    # getting them again costs more than the arithmetic.
    for half in (slice(0, shifts // 2), slice(shifts // 2, shifts)):
        width = shifted_x[half] - x
        width[width == 0.0] = np.nan
        with np.errstate(all="ignore"):
            np.divide(shifted_y[half] - y, width, out=slopes[half])
    pairs = slopes.reshape(-1)[: count * (count - 1) // 2]
    undefined = np.isnan(pairs)
    return pairs[~undefined] if undefined.any() else pairs
