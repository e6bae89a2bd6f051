"""How evenly counts are spread: entropy and perplexity."""

import math

import numpy as np
from numpy.typing import ArrayLike

from lightning_plateau.core.statistics.series import FloatArray, clip, finite, to_unit_scale


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
    return clip(_entropy(categories) / math.log(categories.size), 0.0, 1.0)


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
    return clip(math.exp(_entropy(categories)), 1.0, max(1, categories.size))


def _entropy(counts: FloatArray) -> float:
    """Shannon entropy in nats; NaN without a positive count."""
    scaled, _ = to_unit_scale(counts[counts > 0.0])
    if scaled.size == 0:
        return math.nan
    shares = scaled / scaled.sum()
    shares = shares[shares > 0.0]
    return 0.0 - float(shares @ np.log(shares))
