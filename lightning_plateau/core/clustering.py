"""Clustering: how far the samples of a batch are alike, beyond what shuffling gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.history import Floats
from lightning_plateau.core.labels import Labels

LEAST_SIZE = 8
"""Samples of a window: smaller batches are put together with those that follow them."""


@dataclass(frozen=True, slots=True)
class Clustering:
    """How far the labels of batches are alike.

    Attributes:
        windows: Batches, or runs of small batches, that were compared.
        purity: From 0, where two samples of a batch have the same class as often as any two, to 1,
            where they always have; below 0 where classes are balanced within batches.
        deviations: By how many standard deviations of chance they agree too often.
        single: Share of windows that hold a single class.
        concentration: How often any two samples agree: 1 where there is one class.
    """

    windows: int
    purity: float
    deviations: float
    single: float
    concentration: float


def clustering(counted: Labels) -> Clustering | None:
    """Return how far labels cluster in batches; None where nothing can be compared.

    Pairs are counted, so that the size of the batches cancels: the expected purity of shuffled data
    is 0 whatever it is. The variance is that of a U-statistic of independent samples.

    Example:
        >>> from lightning_plateau.core.history import History
        >>> from lightning_plateau.core.labels import labels
        >>> from lightning_plateau.core.signal import LABEL_COUNTS
        >>> from lightning_plateau.testing import history
        >>> by_class = {"0": [16.0, 16, 0, 0], "1": [0, 0, 16, 16]}
        >>> found = clustering(labels(history({LABEL_COUNTS: by_class})))
        >>> round(found.purity, 2), found.single
        (1.0, 1.0)

    References:
        Simpson, 1949, Measurement of Diversity. Hoeffding, 1948, A Class of Statistics with
        Asymptotically Normal Distribution.
    """
    windows = _windows(counted)
    sizes = windows.sum(axis=1)
    pairs = float((sizes * (sizes - 1)).sum()) / 2
    if len(windows) < 2 or pairs <= 0:
        return None
    shares = windows.sum(axis=0) / sizes.sum()
    squares, cubes = float((shares**2).sum()), float((shares**3).sum())
    agreeing = float((windows * (windows - 1)).sum()) / 2
    if squares >= 1.0:
        return Clustering(len(windows), 0.0, 0.0, 1.0, 1.0)
    triples = float((sizes * (sizes - 1) * (sizes - 2)).sum())
    variance = pairs * (squares - squares**2) + triples * max(0.0, cubes - squares**2)
    return Clustering(
        windows=len(windows),
        purity=(agreeing / pairs - squares) / (1 - squares),
        deviations=(agreeing - pairs * squares) / math.sqrt(variance) if variance > 0 else 0.0,
        single=float((windows.max(axis=1) == sizes).mean()),
        concentration=squares,
    )


def _windows(counted: Labels) -> Floats:
    """Return the counts of batches, neighbours put together until they are large enough."""
    if (counted.counts.sum(axis=1) >= LEAST_SIZE).all():
        return counted.counts  # none has to be put together
    windows, under_way, before = [], np.zeros(len(counted.names)), -1
    for step, row in zip(counted.steps.tolist(), counted.counts, strict=True):
        if step != before + 1:
            under_way = np.zeros_like(under_way)
        under_way, before = under_way + row, step
        if under_way.sum() >= LEAST_SIZE:
            windows.append(under_way)
            under_way = np.zeros_like(under_way)
    return np.array(windows).reshape(-1, len(counted.names))


def between_batches(means: Floats, deviations: Floats) -> float:
    """Return the share of the variance of values that lies between batches; 0 where unknown.

    Shuffled batches of n samples give about 1/n, batches of sorted values nearly 1.

    Args:
        means: Mean of each batch, ``[n]``.
        deviations: Standard deviation within each batch, ``[n]``.

    Example:
        >>> round(between_batches(np.array([1.0, 5.0, 9.0]), np.array([1.0, 1.0, 1.0])), 2)
        0.91
    """
    known = np.isfinite(means) & np.isfinite(deviations)
    known &= (np.abs(means) < 1e100) & (np.abs(deviations) < 1e100)
    if known.sum() < 2:
        return 0.0
    between, within = float(means[known].var()), float((deviations[known] ** 2).mean())
    return between / (between + within) if between > 0 else 0.0
