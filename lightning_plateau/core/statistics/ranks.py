"""Agreement of orders: Spearman’s correlation."""

import math

import numpy as np
from numpy.typing import ArrayLike

from lightning_plateau.core.statistics.series import FloatArray, clip, finite


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
    return clip(float(first_ranks @ second_ranks) / norm, -1.0, 1.0)


def _centred_ranks(series: FloatArray) -> FloatArray:
    """Mean ranks less their mean, doubled so that all of them are whole numbers."""
    _, groups, counts = np.unique(series, return_inverse=True, return_counts=True)
    doubled = 2 * np.cumsum(counts) - counts - series.size
    return doubled[groups].astype(np.float64)
