"""How values scatter: noise, autocorrelation, relative spread and drop."""

import math

import numpy as np
from numpy.typing import ArrayLike

from lightning_plateau.core.statistics.medians import median
from lightning_plateau.core.statistics.series import clip, finite, flat, rescaled, to_unit_scale

# Makes the median absolute deviation of a Gaussian equal its standard deviation: 1 / Φ⁻¹(3/4).
_MAD_TO_STANDARD_DEVIATION = 1.4826


def noise(values: ArrayLike) -> float:
    """Robust standard deviation of the noise from step to step, without the trend.

    It is ``1.4826 · MAD / √2`` of the first differences: differencing removes the trend and doubles
    the variance of independent noise, and the median forgives spikes. It estimates the standard
    deviation of white noise about a smooth trend, and falls short of it when noise is correlated.

    Args:
        values: Series of shape ``(n,)``, in the order of time. Only neighbours that are both finite
            make a difference.

    Returns:
        Standard deviation ≥ 0 in the unit of the values; NaN with fewer than two differences.

    Example:
        >>> noise([10.0, 9.0, 8.0, 7.0, 6.0])
        0.0
        >>> round(noise([1.0, 2.0, 1.0, 2.0, 1.0]), 3)
        1.048

    References:
        von Neumann et al., 1941, "The mean square successive difference".
        Rousseeuw and Croux, 1993, "Alternatives to the median absolute deviation".
    """
    series = flat(values)
    known = np.isfinite(series)
    scaled, exponent = to_unit_scale(np.where(known, series, 0.0))
    steps = np.diff(scaled)[known[1:] & known[:-1]]
    if steps.size < 2:
        return math.nan
    deviation = median(np.abs(steps - median(steps)))
    return rescaled(_MAD_TO_STANDARD_DEVIATION / math.sqrt(2) * deviation, exponent)


def lag1_autocorrelation(values: ArrayLike, *, detrend: bool = False) -> float:
    """Correlation of a series with itself one step earlier.

    Near 0 the series is white noise; near 1 it drifts slowly; near -1 it jumps from side to side,
    as a loss does when the step is too long.

    Args:
        values: Series of shape ``(n,)``, in the order of time; dropped values close up.
        detrend: Remove the least-squares line first. Without it a trend alone gives about 1.

    Returns:
        Correlation in ``[-1, 1]``; NaN with fewer than three finite values, or without variation
        beyond rounding.

    Example:
        >>> lag1_autocorrelation([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
        -0.875
        >>> zigzag_on_a_slope = [0.0, 3.0, 2.0, 5.0, 4.0, 7.0, 6.0, 9.0]
        >>> lag1_autocorrelation(zigzag_on_a_slope) > 0
        True
        >>> lag1_autocorrelation(zigzag_on_a_slope, detrend=True) < -0.7
        True

    References:
        Box and Jenkins, 1970, "Time Series Analysis: Forecasting and Control".
    """
    scaled, _ = to_unit_scale(finite(values))
    if scaled.size < 3:
        return math.nan
    rounding = scaled.size * np.finfo(np.float64).eps
    deviations = scaled - scaled.mean()
    if detrend:
        time = np.arange(scaled.size) - (scaled.size - 1) / 2
        deviations -= (deviations @ time) / (time @ time) * time
    if np.abs(deviations).max() <= rounding:
        return math.nan
    deviations, _ = to_unit_scale(deviations)
    correlation = (deviations[1:] @ deviations[:-1]) / (deviations @ deviations)
    return clip(float(correlation), -1.0, 1.0)


def coefficient_of_variation(values: ArrayLike) -> float:
    """Spread relative to the size: the standard deviation over the absolute mean.

    It depends neither on the unit nor on the sign. It is meant for quantities that keep their sign,
    such as norms and losses: as the mean of a series that varies nears zero it grows without bound,
    and it is +inf where the mean is zero. A constant series, zeros included, gives exactly 0.

    Args:
        values: Series of shape ``(n,)``, in any order.

    Returns:
        Ratio in ``[0, inf]`` from the population standard deviation; NaN with fewer than two finite
        values.

    Example:
        >>> coefficient_of_variation([1.0, 3.0]), coefficient_of_variation([-100.0, -300.0])
        (0.5, 0.5)
        >>> coefficient_of_variation([-1.0, 1.0]), coefficient_of_variation([0.0, 0.0])
        (inf, 0.0)

    References:
        Pearson, 1896, "Regression, heredity, and panmixia".
    """
    scaled, _ = to_unit_scale(finite(values))
    if scaled.size < 2:
        return math.nan
    if scaled.min() == scaled.max():
        return 0.0
    mean = abs(float(scaled.mean()))
    return float(scaled.std()) / mean if mean > 0.0 else math.inf


def relative_drop(first: float, last: float, scale: float | None = None) -> float:
    """By what part a value decreased, for values of either sign.

    Args:
        first: Value at the start.
        last: Value at the end.
        scale: What counts as 1, sign ignored, such as the noise or the loss of a constant guess.
            The greater of ``|first|`` and ``|last|`` when omitted.

    Returns:
        Positive for a decrease, negative for an increase, 0 for no change. Without ``scale`` it is
        in ``[-1, 1]`` for values of one sign and in ``[-2, 2]`` otherwise, and a rise is exactly
        the negative of the same fall. With ``scale`` it is unbounded, and infinite for a change on
        a scale of zero. NaN if any argument is not finite.

    Example:
        >>> relative_drop(2.0, 1.5), relative_drop(1.5, 2.0), relative_drop(-1.0, -2.0)
        (0.25, -0.25, 0.5)
        >>> relative_drop(2.0, 1.5, scale=0.1)
        5.0

    References:
        Törnqvist et al., 1985, "How should relative changes be measured?".
    """
    first, last = float(first), float(last)
    unit = max(abs(first), abs(last)) if scale is None else abs(float(scale))
    if not (math.isfinite(first) and math.isfinite(last) and math.isfinite(unit)):
        return math.nan
    if first == last:
        return 0.0
    if scale is None:
        return first / unit - last / unit
    return (first - last) / unit if unit > 0.0 else math.copysign(math.inf, first - last)
