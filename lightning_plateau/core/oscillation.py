"""Whether a loss swings from side to side, beyond what mini-batches do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.statistics import lag1_autocorrelation, theil_sen
from lightning_plateau.core.trend import finite_values

FEW_BATCHES = 10
"""Epochs of at most so many steps repeat their batches' order too soon to tell batch from swing."""


@dataclass(frozen=True, slots=True)
class Oscillation:
    """Swings of the recent half of the loss about its trend.

    Attributes:
        rows: Values looked at: steps, or means of epochs where an epoch has but a few steps.
        amplitude: Half the distance between the 16th and the 84th percentile about the trend, as
            a share of the median level.
        correlation: Lag-1 autocorrelation about the trend, −1 for a strict to and fro.
        correlation_limit: What chance alone hardly falls below.
        turns: Changes of direction that span at least a fifth of the level.
        noise_free: Whether each step sees the whole data set, so that no batch makes swings.
    """

    rows: int
    amplitude: float
    correlation: float
    correlation_limit: float
    turns: int
    noise_free: bool

    @property
    def to_and_fro(self) -> bool:
        """Whether neighbours lie on opposite sides more often than chance allows."""
        return self.correlation < self.correlation_limit


NO_OSCILLATION = Oscillation(0, 0.0, 0.0, -1.0, 0, False)


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
    if len(recent) < 8:
        return NO_OSCILLATION
    about = recent - theil_sen(recent) * (np.arange(len(recent)) - len(recent) / 2)
    level = float(np.median(np.abs(recent)))
    low, high = np.percentile(about, [16, 84])  # one leap is no swing
    spread = float(high - low) / 2
    correlation = float(np.nan_to_num(lag1_autocorrelation(recent, detrend=True)))
    independent = len(recent)
    if per_epoch is not None and per_epoch > FEW_BATCHES:
        independent = min(independent, per_epoch)
    return Oscillation(
        rows=len(recent),
        amplitude=spread / level if level > 0 else 0.0,
        correlation=correlation,
        correlation_limit=-max(0.35, min(0.9, 3 / math.sqrt(independent))),
        turns=_turns(recent, 0.2 * level),
        noise_free=per_epoch == 1,
    )


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
