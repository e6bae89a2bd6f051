"""Robust statistics of short series: trend, noise, spikes, agreement, concentration.

Every function is pure and total over its data. The conventions hold for all of them:

* Input is any real array-like; it is read as a flat float64 array and never written to. Arrays
  given back are always fresh.
* Rows with NaN or an infinity are dropped unless the function says otherwise. Series that belong
  together are paired from the start; the surplus of a longer one is ignored.
* A quantity that the data does not determine (too few values, no variation) is NaN. Comparisons
  with NaN are false, so a threshold on an unknown quantity never fires.
* Nothing raises and nothing warns, whatever the data. Only a *parameter* that makes no sense
  (``alpha`` outside [0, 1], fewer than one block) raises ``ValueError``.
* Values are scaled by a power of two first, so the largest float64 cannot overflow on the way. It
  rounds only what is 10³⁰⁸ times smaller than the greatest.
"""

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MannKendall",
    "block_medians",
    "coefficient_of_variation",
    "ema",
    "finite",
    "lag1_autocorrelation",
    "log_ema_z_scores",
    "mann_kendall",
    "noise",
    "normalized_entropy",
    "perplexity",
    "relative_drop",
    "row_medians",
    "spearman",
    "theil_sen",
    "thin",
]

FloatArray = NDArray[np.float64]

# Pairwise statistics cost n²/2; at 200 values that is 19 900 pairs and well under a millisecond.
_PAIRWISE_LIMIT = 200

# Makes the median absolute deviation of a Gaussian equal its standard deviation: 1 / Φ⁻¹(3/4).
_MAD_TO_STANDARD_DEVIATION = 1.4826

# A constant series has no spread, and rounding must not look like a spike. Log units squared:
# one part per million, the resolution of a float32 value.
_LOG_VARIANCE_FLOOR = 1e-12


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


@overload
def finite(values: ArrayLike, /) -> FloatArray: ...
@overload
def finite(
    values: ArrayLike, other: ArrayLike, /, *others: ArrayLike
) -> tuple[FloatArray, ...]: ...
def finite(values: ArrayLike, /, *others: ArrayLike) -> FloatArray | tuple[FloatArray, ...]:
    """Drop every row in which any of the series is NaN or infinite.

    Args:
        values: Series of shape ``(n,)``.
        *others: Series paired with it, row by row.

    Returns:
        One array for one series; a tuple of arrays of equal length for several.

    Example:
        >>> finite([1.0, float("nan"), 3.0]).tolist()
        [1.0, 3.0]
        >>> steps, losses = finite([0, 1, 2], [5.0, float("inf"), 4.0])
        >>> steps.tolist(), losses.tolist()
        ([0.0, 2.0], [5.0, 4.0])
    """
    columns = [_flat(column) for column in (values, *others)]
    length = min(column.size for column in columns)
    columns = [column[:length] for column in columns]
    keep = np.isfinite(columns[0])
    for column in columns[1:]:
        keep &= np.isfinite(column)
    kept = tuple(column[keep] for column in columns)
    return kept if others else kept[0]


def block_medians(values: ArrayLike, blocks: int) -> FloatArray:
    """Medians of consecutive blocks of nearly equal length, which differ by at most one value.

    Unlike a mean, a median forgives a spike in its block; unlike a subsample, it uses every value.

    Args:
        values: Series of shape ``(n,)``, in the order of time.
        blocks: Number of blocks, at least 1; a series shorter than that has one value a block.

    Returns:
        Array of shape ``(min(blocks, n),)``. A block's median is over its finite values and is NaN
        when it has none.

    Raises:
        ValueError: If ``blocks`` is below 1.

    Example:
        >>> block_medians([1, 2, 90, 4, 5, 6, 7], 2).tolist()
        [3.0, 6.0]

    References:
        Tukey, 1977, "Exploratory Data Analysis" (median smoothing).
    """
    if blocks < 1:
        raise ValueError(f"blocks must be at least 1, received {blocks}")
    series = _flat(values)
    blocks = min(blocks, series.size)
    if blocks == 0:
        return series
    series[~np.isfinite(series)] = np.nan
    width, longer = divmod(series.size, blocks)
    split = longer * (width + 1)
    head = _row_medians(series[:split].reshape(longer, width + 1))
    tail = _row_medians(series[split:].reshape(blocks - longer, width))
    return np.concatenate([head, tail])


def row_medians(rows: ArrayLike) -> FloatArray:
    """Median of the finite values of each row.

    Args:
        rows: Table of shape ``(n, k)``.

    Returns:
        Array of shape ``(n,)``; NaN for a row without a finite value.

    Example:
        >>> row_medians([[3.0, 1.0, float("inf")], [float("nan")] * 3]).tolist()
        [2.0, nan]
    """
    with np.errstate(all="ignore"):
        table = np.array(rows, dtype=np.float64)
    if table.shape[1] == 0:
        return np.full(len(table), np.nan)
    table[~np.isfinite(table)] = np.nan
    return _row_medians(table)


def thin(values: ArrayLike, limit: int) -> FloatArray:
    """Shorten a series to at most ``limit`` values by block medians; a short one stays as it is.

    Args:
        values: Series of shape ``(n,)``, in the order of time.
        limit: Greatest length of the result, at least 1.

    Returns:
        Array of shape ``(min(limit, n),)``. Non-finite values survive only where nothing is thinned
        (see `block_medians`).

    Raises:
        ValueError: If ``limit`` is below 1.

    Example:
        >>> thin([3, 1, 2], 10).tolist()
        [3.0, 1.0, 2.0]
        >>> thin(range(1000), 4).tolist()
        [124.5, 374.5, 624.5, 874.5]

    References:
        Tukey, 1977, "Exploratory Data Analysis" (median smoothing).
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, received {limit}")
    series = _flat(values)
    return series if series.size <= limit else block_medians(series, limit)


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
    series = _flat(y)
    series, positions = finite(series, np.arange(series.size) if x is None else x)
    series, rise = _to_unit_scale(thin(series, _PAIRWISE_LIMIT))
    positions, run = _to_unit_scale(thin(positions, _PAIRWISE_LIMIT))
    return _rescaled(_median(_pairwise_slopes(series, positions)), rise - run)


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


def ema(values: ArrayLike, alpha: float) -> FloatArray:
    """Exponential moving average without the bias towards its start value.

    The average after step ``t`` weighs the value of step ``i`` by ``alpha ** (t - i)``, and the
    weights are normalized, so the first average is the first value.

    Args:
        values: Series of shape ``(n,)``, in the order of time.
        alpha: Weight of the past in ``[0, 1]``: 0 repeats the values, 1 is the running mean; the
            memory is about ``1 / (1 - alpha)`` steps.

    Returns:
        Array of shape ``(n,)``. A non-finite value leaves the average where it was; the average is
        NaN before the first finite value.

    Raises:
        ValueError: If ``alpha`` is outside ``[0, 1]``.

    Example:
        >>> ema([4.0, 1.0, float("nan"), 2.5], alpha=0.5).tolist()
        [4.0, 2.0, 2.0, 2.2857142857142856]

    References:
        Kingma and Ba, 2015, "Adam: A Method for Stochastic Optimization" (bias correction).
    """
    _check_alpha(alpha)
    series = _flat(values)
    known = np.isfinite(series)
    scaled, exponent = _to_unit_scale(series[known])
    average, weight = 0.0, 0.0
    averages = [math.nan]
    for value in scaled.tolist():
        weight = alpha * weight + 1.0
        gain, distance = 1.0 / weight, value - average
        # From the nearer end, so that rounding leaves the average between the two.
        average = average + gain * distance if gain < 0.5 else value - (1.0 - gain) * distance
        averages.append(average)
    with np.errstate(all="ignore"):
        history: FloatArray = np.ldexp(np.array(averages), exponent)
    return history.take(np.cumsum(known))


def log_ema_z_scores(
    values: ArrayLike, *, alpha: float = 0.97, warm_up: int = 25, z_limit: float = 4.0
) -> FloatArray:
    """How many standard deviations each value lies above the recent past, on a log scale.

    The manner of ZClip: the mean and variance of the first ``warm_up`` values start two exponential
    moving averages; each later value is scored against them *before* it enters them. The logarithm
    makes the score independent of the unit. A spike stays out of the averages, so that the next
    spike is not hidden by the last; a lasting jump therefore remains a spike to the end.

    Args:
        values: Positive series of shape ``(n,)``, such as gradient norms, in the order of time.
        alpha: Weight of the past in ``[0, 1]``.
        warm_up: Number of finite positive values that start the averages; below 1 counts as 1.
        z_limit: A score above it is a spike. Falls are never spikes.

    Returns:
        Scores of shape ``(n,)``: +inf for NaN and infinities, wherever they are; NaN for zero and
        negative values, which have no logarithm, and within the warm-up. A spread below one part
        per million counts as one part per million, so the other scores are finite.

    Raises:
        ValueError: If ``alpha`` is outside ``[0, 1]``.

    Example:
        >>> norms = [1.0, 1.1] * 15 + [50.0, 1.0]
        >>> scores = log_ema_z_scores(norms)
        >>> bool(np.isnan(scores[:25]).all()), int(np.nanargmax(scores))
        (True, 30)
        >>> bool(scores[30] > 4.0), bool(abs(scores[31]) < 4.0)
        (True, True)

    References:
        Kumar et al., 2025, "ZClip: Adaptive Spike Mitigation for LLM Pre-Training".
    """
    _check_alpha(alpha)
    series = _flat(values)
    known = np.isfinite(series)
    scores = np.where(known, np.nan, np.inf)
    usable = np.flatnonzero(known & (series > 0.0))
    warm_up = max(1, warm_up)
    if usable.size > warm_up:
        logs = np.log(series[usable])
        scores[usable[warm_up:]] = _ema_z_scores(logs, alpha, warm_up, z_limit)
    return scores


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
    series = _flat(values)
    known = np.isfinite(series)
    scaled, exponent = _to_unit_scale(np.where(known, series, 0.0))
    steps = np.diff(scaled)[known[1:] & known[:-1]]
    if steps.size < 2:
        return math.nan
    deviation = _median(np.abs(steps - _median(steps)))
    return _rescaled(_MAD_TO_STANDARD_DEVIATION / math.sqrt(2) * deviation, exponent)


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
    scaled, _ = _to_unit_scale(finite(values))
    if scaled.size < 3:
        return math.nan
    rounding = scaled.size * np.finfo(np.float64).eps
    deviations = scaled - scaled.mean()
    if detrend:
        time = np.arange(scaled.size) - (scaled.size - 1) / 2
        deviations -= (deviations @ time) / (time @ time) * time
    if np.abs(deviations).max() <= rounding:
        return math.nan
    deviations, _ = _to_unit_scale(deviations)
    correlation = (deviations[1:] @ deviations[:-1]) / (deviations @ deviations)
    return _clip(float(correlation), -1.0, 1.0)


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
    scaled, _ = _to_unit_scale(finite(values))
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


def normalized_entropy(counts: ArrayLike) -> float:
    """How evenly a count is spread over its categories: Shannon entropy over its maximum.

    Args:
        counts: Counts or weights of shape ``(categories,)``, empty categories included. A negative
            count is read as zero, a non-finite one removes its category.

    Returns:
        Evenness in ``[0, 1]``: 0 when one category has all, 1 when all have the same. NaN with
        fewer than two categories or without any count.

    Example:
        >>> normalized_entropy([5, 5, 5, 5]), normalized_entropy([20, 0, 0, 0])
        (1.0, 0.0)
        >>> round(normalized_entropy([10, 10, 0, 0]), 3)
        0.5

    References:
        Shannon, 1948, "A mathematical theory of communication".
        Pielou, 1966, "The measurement of diversity in different types of biological collections".
    """
    categories = finite(counts)
    if categories.size < 2:
        return math.nan
    return _clip(_entropy(categories) / math.log(categories.size), 0.0, 1.0)


def perplexity(counts: ArrayLike) -> float:
    """Effective number of categories in use: the exponential of the Shannon entropy.

    Args:
        counts: Counts or weights of shape ``(categories,)``, read as in `normalized_entropy`.

    Returns:
        Number in ``[1, categories]``; NaN without any count.

    Example:
        >>> perplexity([7, 0, 0]), round(perplexity([3, 3, 0]), 6)
        (1.0, 2.0)

    References:
        Jelinek et al., 1977, "Perplexity: a measure of the difficulty of speech recognition tasks".
        van den Oord et al., 2017, "Neural Discrete Representation Learning" (use of a codebook).
    """
    categories = finite(counts)
    return _clip(math.exp(_entropy(categories)), 1.0, max(1, categories.size))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation: how far two series rise together, whatever the shape of their relation.

    Args:
        x: Series of shape ``(n,)``.
        y: Series of shape ``(n,)``, paired with it.

    Returns:
        Correlation of the ranks in ``[-1, 1]``, ties sharing their mean rank; NaN with fewer than
        two finite rows or when either series is constant.

    Example:
        >>> spearman([1, 2, 3, 4], [1, 10, 100, 1000])
        1.0
        >>> spearman([1, 2, 3, 4], [9, 7, 8, 1])
        -0.8

    References:
        Spearman, 1904, "The proof and measurement of association between two things".
    """
    first, second = finite(x, y)
    if first.size < 2:
        return math.nan
    first_ranks, second_ranks = _centred_ranks(first), _centred_ranks(second)
    norm = math.sqrt(float(first_ranks @ first_ranks) * float(second_ranks @ second_ranks))
    if norm == 0.0:
        return math.nan
    return _clip(float(first_ranks @ second_ranks) / norm, -1.0, 1.0)


def _flat(values: ArrayLike) -> FloatArray:
    with np.errstate(all="ignore"):
        return np.array(values, dtype=np.float64).reshape(-1)


def _to_unit_scale(series: FloatArray) -> tuple[FloatArray, int]:
    """Scale finite values by the power of two that puts the greatest in [½, 1)."""
    if series.size == 0:
        return series, 0
    exponent = math.frexp(float(np.abs(series).max()))[1]
    return np.ldexp(series, -exponent), exponent


def _rescaled(value: float, exponent: int) -> float:
    with np.errstate(all="ignore"):
        return float(np.ldexp(value, exponent))


def _clip(value: float, low: float, high: float) -> float:
    """Cut off what rounding puts beyond a bound; unlike with min and max, NaN stays NaN."""
    return float(np.clip(value, low, high))


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


def _middle(lower: FloatArray, upper: FloatArray) -> FloatArray:
    # Halving first cannot overflow; halving equal subnormal numbers would round them.
    return np.where(lower == upper, lower, 0.5 * lower + 0.5 * upper)


def _median(series: FloatArray) -> float:
    """Median that reorders its argument: np.median's copy and checks dominate at this size."""
    if series.size == 0:
        return math.nan
    low, high = (series.size - 1) // 2, series.size // 2
    series.partition((low, high))
    return float(_middle(series[low], series[high]))


def _row_medians(rows: FloatArray) -> FloatArray:
    """Median of each row without its NaN. Sorting puts them last, where counting skips them."""
    ordered = np.sort(rows, axis=1)
    counts = np.count_nonzero(~np.isnan(rows), axis=1)
    row = np.arange(len(rows))
    return _middle(ordered[row, np.maximum(counts - 1, 0) // 2], ordered[row, counts // 2])


def _ema_z_scores(logs: FloatArray, alpha: float, warm_up: int, z_limit: float) -> list[float]:
    mean, variance = float(logs[:warm_up].mean()), float(logs[:warm_up].var())
    gain = 1.0 - alpha
    scores = []
    for value in logs[warm_up:].tolist():
        floored = variance if variance > _LOG_VARIANCE_FLOOR else _LOG_VARIANCE_FLOOR
        score = (value - mean) / math.sqrt(floored)
        scores.append(score)
        if score <= z_limit:
            mean += gain * (value - mean)
            variance = alpha * variance + gain * (value - mean) ** 2
    return scores


def _entropy(counts: FloatArray) -> float:
    """Shannon entropy in nats; NaN without a positive count."""
    scaled, _ = _to_unit_scale(counts[counts > 0.0])
    if scaled.size == 0:
        return math.nan
    shares = scaled / scaled.sum()
    shares = shares[shares > 0.0]
    return 0.0 - float(shares @ np.log(shares))


def _centred_ranks(series: FloatArray) -> FloatArray:
    """Mean ranks less their mean, doubled so that all of them are whole numbers."""
    _, groups, counts = np.unique(series, return_inverse=True, return_counts=True)
    doubled = 2 * np.cumsum(counts) - counts - series.size
    return doubled[groups].astype(np.float64)


def _check_alpha(alpha: float) -> None:
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha, the weight of the past, must be in [0, 1], received {alpha}")
