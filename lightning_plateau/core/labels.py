"""Labels: how often each class occurs, batch by batch, as far as they were counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History, Steps
from lightning_plateau.core.signal import LABEL_COUNTS
from lightning_plateau.core.statistics import perplexity

MOST = 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Counted labels of some batches.

    Attributes:
        steps: The steps whose batches were counted, ``[n]``.
        counts: Samples of each class that occurs, ``[n, classes]``.
        names: The classes that occur, as they were counted.
    """

    steps: Steps
    counts: Floats
    names: tuple[str, ...]

    @property
    def totals(self) -> Floats:
        """Samples of each class, ``[classes]``."""
        return np.asarray(self.counts.sum(axis=0))

    @property
    def shares(self) -> Floats:
        """Share of each class, ``[classes]``."""
        return np.asarray(self.totals / self.totals.sum())

    @property
    def sizes(self) -> Floats:
        """Samples of each batch, ``[n]``."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def ratio(self) -> float:
        """Most frequent class over the least frequent."""
        return float(self.totals.max() / self.totals.min())

    @property
    def evenness(self) -> float:
        """From 0, where one class has all, to 1, where all have the same; 1 for a single class."""
        classes = len(self.names)
        return (perplexity(self.totals) - 1) / (classes - 1) if classes > 1 else 1.0

    @property
    def entropy(self) -> float:
        """Loss of the best constant guess: the entropy of the shares in nats."""
        return float(-(self.shares * np.log(self.shares)).sum())

    @property
    def entropy_error(self) -> float:
        """Standard error of ``entropy``, by the samples counted."""
        surprise = -np.log(self.shares)
        variance = float((self.shares * (surprise - self.entropy) ** 2).sum())
        return math.sqrt(variance / float(self.totals.sum()))


@derived
def labels(history: History) -> Labels | None:
    """Return the counted labels; None where none were.

    Example:
        >>> from lightning_plateau.testing import history
        >>> nan = float("nan")
        >>> found = labels(history({LABEL_COUNTS: {"0": [6, 8, 4], "1": [2, nan, 4]}}))
        >>> found.totals.tolist(), found.ratio, round(found.entropy, 3)
        ([18.0, 6.0], 3.0, 0.562)
    """
    series = history[LABEL_COUNTS]
    counts = np.clip(np.nan_to_num(series.values, nan=0.0, posinf=MOST, neginf=0.0), 0.0, MOST)
    rows, columns = counts.sum(axis=1) > 0, counts.sum(axis=0) > 0
    if not rows.any():
        return None
    names = tuple(name for name, seen in zip(series.labels, columns, strict=True) if seen)
    return Labels(series.steps[rows], counts[rows][:, columns], names)
