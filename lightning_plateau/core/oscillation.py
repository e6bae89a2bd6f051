"""Whether a loss swings from side to side, beyond what mini-batches do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import Derivable, derived
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.statistics import lag1_autocorrelation, theil_sen
from lightning_plateau.core.trend import finite_values

FEW_BATCHES = 10
"""Epochs of at most so many steps repeat their batches' order too soon to tell batch from swing."""


FEWEST = 8
"""Values that swings can be seen in."""


@dataclass(frozen=True, eq=False)
class Oscillation(Derivable):
    """Swings of the recent half of the loss about its trend; what is not asked for costs nothing.

    Attributes:
        recent: Values looked at: of steps, or means of epochs where an epoch has but a few steps;
            none where they are too few.
        steps_per_epoch: Optimizer steps of an epoch; None where unknown.
    """

    recent: Floats
    steps_per_epoch: int | None = None

    @property
    def rows(self) -> int:
        """Values looked at."""
        return len(self.recent)

    @property
    @derived
    def level(self) -> float:
        """Median size of a value."""
        return float(np.median(np.abs(self.recent))) if self.rows else 0.0

    @property
    @derived
    def amplitude(self) -> float:
        """Half the way from the 16th to the 84th percentile about the trend, over the level."""
        if not self.level > 0:
            return 0.0
        about = self.recent - theil_sen(self.recent) * (np.arange(self.rows) - self.rows / 2)
        low, high = np.percentile(about, [16, 84])  # one leap is no swing
        return float(high - low) / 2 / self.level

    @property
    @derived
    def correlation(self) -> float:
        """Lag-1 autocorrelation about the trend, −1 for a strict to and fro."""
        return float(np.nan_to_num(lag1_autocorrelation(self.recent, detrend=True)))

    @property
    def correlation_limit(self) -> float:
        """What chance alone hardly falls below."""
        independent = max(1, self.rows)
        if self.steps_per_epoch is not None and self.steps_per_epoch > FEW_BATCHES:
            independent = min(independent, self.steps_per_epoch)
        return -max(0.35, min(0.9, 3 / math.sqrt(independent)))

    @property
    def to_and_fro(self) -> bool:
        """Whether neighbours lie on opposite sides more often than chance allows."""
        return self.correlation < self.correlation_limit

    @property
    @derived
    def turns(self) -> int:
        """Changes of direction that span at least a fifth of the level."""
        return _turns(self.recent, 0.2 * self.level)

    @property
    def noise_free(self) -> bool:
        """Whether each step sees the whole data set, so that no batch makes swings."""
        return self.steps_per_epoch == 1 and self.rows > 0


@derived
def oscillation(history: History) -> Oscillation:
    """Return the swings of the recent half of the training loss.

    Example:
        >>> from lightning_plateau.testing import history
        >>> swings = oscillation(history(loss=[1.0, 2.0] * 50))
        >>> swings.to_and_fro, round(swings.amplitude, 2)
        (True, 0.33)
        >>> oscillation(history(loss=np.linspace(2, 1, 100))).to_and_fro
        False
    """
    per_epoch = history.profile.steps_per_epoch
    values = finite_values(history[LOSS])
    if per_epoch is not None and 1 < per_epoch <= FEW_BATCHES:
        whole = len(values) // per_epoch * per_epoch
        values = values[:whole].reshape(-1, per_epoch).mean(axis=1)
    recent = values[len(values) // 2 :]
    return Oscillation(recent if len(recent) >= FEWEST else recent[:0], per_epoch)


def _turns(values: Floats, span: float) -> int:
    """Return how often the series turned back by at least ``span``."""
    if span <= 0:
        return 0
    turns, direction, extreme = 0, 0, float(values[0])
    for value in values.tolist():
        if direction * (value - extreme) > 0 or (direction == 0 and abs(value - extreme) > span):
            direction = direction or (1 if value > extreme else -1)
            extreme = value
        elif direction and abs(value - extreme) > span:
            turns, direction, extreme = turns + 1, -direction, value
    return turns
