"""Exponential moving averages, and how far a value lies above one."""

import math

import numpy as np
from numpy.typing import ArrayLike

from lightning_plateau.core.statistics.series import FloatArray, flat, to_unit_scale

# A constant series has no spread, and rounding must not look like a spike. Log units squared:
# one part per million, the resolution of a float32 value.
_LOG_VARIANCE_FLOOR = 1e-12


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
    series = flat(values)
    known = np.isfinite(series)
    scaled, exponent = to_unit_scale(series[known])
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
    series = flat(values)
    known = np.isfinite(series)
    scores = np.where(known, np.nan, np.inf)
    usable = np.flatnonzero(known & (series > 0.0))
    warm_up = max(1, warm_up)
    if usable.size > warm_up:
        logs = np.log(series[usable])
        scores[usable[warm_up:]] = _ema_z_scores(logs, alpha, warm_up, z_limit)
    return scores


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


def _check_alpha(alpha: float) -> None:
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha, the weight of the past, must be in [0, 1], received {alpha}")
