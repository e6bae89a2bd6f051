"""What the step-size experiment says: how the loss runs along an update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import EXPERIMENT_LEARNING_RATES, EXPERIMENT_STEP_SIZE

LEAST = 1e-3
"""Share of the loss that a change must amount to."""
LEAST_FURTHER = 1e-4
"""The same for ten updates in one, along which a loss of single precision still is exact."""
CONDITIONS = ("0", "0.1", "0.3", "1", "3", "10")


@dataclass(frozen=True, slots=True)
class AlongUpdate:
    """Changes of the loss along the update of a batch, as shares of the loss before it.

    Negative where the loss fell. Each is the median over the batches that were tried.

    Attributes:
        tenth: Change after a tenth or three tenths of the update, whichever is lower.
        whole: Change after the update.
        triple: Change after three times the update.
        tenfold: Change after ten times the update.
    """

    tenth: float
    whole: float
    triple: float
    tenfold: float

    @property
    def overshoots(self) -> bool:
        """Whether the loss rises over the update though it falls at its beginning.

        Also where it rises by a tenth or more: then even a tenth of the step is too far.
        """
        return self.whole > LEAST and (self.tenth < -LEAST or self.whole > 0.1)

    @property
    def holds(self) -> bool:
        """Whether the loss falls all along the update, and further than at its beginning."""
        return self.whole < -LEAST and self.whole < self.tenth

    @property
    def short(self) -> bool:
        """Whether ten times the update lowers the loss at least five times as far."""
        further = min(self.tenfold, self.triple)
        return -0.02 < self.whole < 0.0 and further < 5 * self.whole and further < -LEAST_FURTHER

    @property
    def long_enough(self) -> bool:
        """Whether longer updates would not help: ten times as long they raise the loss."""
        return self.tenfold > LEAST


@derived
def along_update(history: History) -> AlongUpdate | None:
    """Return how the loss runs along an update; None where that was not tried, or told nothing.

    Example:
        >>> from lightning_plateau.testing import history
        >>> losses = {"0": [1.0], "0.1": [0.9], "0.3": [0.8], "1": [3.0], "3": [9.0], "10": [90.0]}
        >>> along_update(history({EXPERIMENT_STEP_SIZE: losses})).overshoots
        True
    """
    series = history[EXPERIMENT_STEP_SIZE]
    if not len(series) or not set(CONDITIONS) <= set(series.labels):
        return None
    rows = series.values[series.steps == series.steps[-1]]
    columns = rows[:, [series.labels.index(name) for name in CONDITIONS]]
    with np.errstate(all="ignore"):
        changes = (columns - columns[:, :1]) / np.abs(columns[:, :1])
    changes = changes[np.isfinite(columns[:, 0]) & (columns[:, 0] != 0)]
    if not len(changes):
        return None
    # What is not finite has risen without bound.
    medians = np.median(np.nan_to_num(changes, nan=1e12, posinf=1e12, neginf=-1e12), axis=0)
    _, tenth, third, whole, triple, tenfold = medians.tolist()
    return AlongUpdate(min(tenth, third), whole, triple, tenfold)


def best_multiple(history: History) -> float | None:
    """Return the multiple of the learning rate that lowered the loss most; None if not tried.

    Example:
        >>> from lightning_plateau.testing import history
        >>> losses = {"0.1": [0.9], "1": [1.2], "10": [float("nan")]}
        >>> best_multiple(history({EXPERIMENT_LEARNING_RATES: losses}))
        0.1
    """
    series = history[EXPERIMENT_LEARNING_RATES]
    tried = dict(zip(series.labels, series.last_row.tolist(), strict=True))
    known = {
        float(name): loss for name, loss in tried.items() if np.isfinite(loss) and _is_number(name)
    }
    return min(known, key=lambda multiple: known[multiple], default=None)


def _is_number(name: str) -> bool:
    try:
        return float(name) > 0
    except ValueError:
        return False
