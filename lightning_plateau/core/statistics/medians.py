"""Medians: of blocks, of rows, of whole series; a series thinned by them."""

import math

import numpy as np
from numpy.typing import ArrayLike

from lightning_plateau.core.statistics.series import FloatArray, flat

# Rows of which finding the middle takes far less time than sorting.
_LONG = 500


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
    series = flat(values)
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
    series = flat(values)
    return series if series.size <= limit else block_medians(series, limit)


def median(series: FloatArray) -> float:
    """Median that reorders its argument: np.median's copy and checks dominate at this size."""
    if series.size == 0:
        return math.nan
    low, high = (series.size - 1) // 2, series.size // 2
    series.partition((low, high))
    return float(_middle(series[low], series[high]))


def _row_medians(rows: FloatArray) -> FloatArray:
    """Median of each row without its NaN. Sorting puts them last, where counting skips them."""
    counts = np.count_nonzero(~np.isnan(rows), axis=1)
    width = rows.shape[1]
    if width >= _LONG and (counts == width).all():
        middle = (width - 1) // 2, width // 2
        ordered = np.partition(rows, middle, axis=1)
    else:
        ordered = np.sort(rows, axis=1)
    row = np.arange(len(rows))
    return _middle(ordered[row, np.maximum(counts - 1, 0) // 2], ordered[row, counts // 2])


def _middle(lower: FloatArray, upper: FloatArray) -> FloatArray:
    # Halving first cannot overflow; halving equal subnormal numbers would round them.
    return np.where(lower == upper, lower, 0.5 * lower + 0.5 * upper)
