"""By how much to shorten or to lengthen the steps of a training, from how far its updates go."""

from __future__ import annotations

import math

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import LEARNING_RATES, UPDATE_RATIOS
from lightning_plateau.core.updates import weight_updates

ORDINARY = 0.01
"""‖Δw‖/‖w‖ of a first update that sound trainings make, within a factor of a few."""
SHORTEST, LONGEST = 1e-4, 0.5
AGAIN = 0.25
"""What a learning rate is multiplied by that is below the one aimed at already."""
MOST_MOMENTUM = 100.0
LATEST = 3
LEAST_RAISE, MOST_RAISE = 3.0, 1e4


def shortening(history: History, strength: float = 1.0, rate: float | None = None) -> float | None:
    """Return a factor for the learning rate that makes updates ordinary; None where it is unknown.

    The first update tells: later ones are made by weights that too long steps have already moved.
    The factor is meant for the learning rate as it is now, whatever has changed it since. Momentum
    adds steps up, and the first one of RMSprop is far longer than those that follow.

    Args:
        history: What was recorded.
        strength: Share of an ordinary update to aim at.
        rate: The largest learning rate now; None for that of the last step.

    Returns:
        A number from 0.0001 to 0.5 with one digit, times ``strength``; 0.5 where the first update
        was not too long; 0.25 where the rate is that low already.

    Example:
        >>> from lightning_plateau.testing import history
        >>> shortening(history({UPDATE_RATIOS: {"fc.weight": [0.8, 1e6], "fc.bias": [3.0, 1.0]}}))
        0.01
    """
    first = _first_update(history)
    if first is None:
        return None
    factor = ORDINARY / (first * _gain(history))
    wanted = float(f"{min(LONGEST, max(SHORTEST, factor)):.0e}") * strength
    now = wanted / _change_of_rate(history, rate)
    return float(f"{now:.3g}") if now <= LONGEST else AGAIN


@derived
def _first_update(history: History) -> float | None:
    """Return ‖Δw‖/‖w‖ of the first update that was measured, in the median over matrices."""
    ratios = history[UPDATE_RATIOS]
    matrices = {fact.name for fact in history.profile.parameters if len(fact.shape) > 1}
    names = matrices.intersection(ratios.labels) or set(filter(_is_weight, ratios.labels))
    columns = [i for i, name in enumerate(ratios.labels) if name in names]
    for row in ratios.values[:, columns]:
        moved = row[np.isfinite(row) & (row > 0)]
        if len(moved):
            return float(np.median(moved))
    return None


@derived
def _gain(history: History) -> float:
    """Return how many times its first update an optimizer goes on to move for a like gradient."""
    if not history.profile.optimizers or not history.profile.optimizers[0].groups:
        return 1.0
    optimizer = history.profile.optimizers[0]
    settings = optimizer.groups[0].settings
    if optimizer.kind == "RMSprop":
        alpha = settings.get("alpha")
        return math.sqrt(1.0 - alpha) if isinstance(alpha, float) and 0.0 < alpha < 1.0 else 1.0
    momentum = settings.get("momentum")
    known = isinstance(momentum, float) and 0.0 < momentum < 1.0
    return min(MOST_MOMENTUM, 1.0 / (1.0 - float(momentum or 0.0))) if known else 1.0


def _change_of_rate(history: History, rate: float | None) -> float:
    """Return the learning rate now over that of the first update; 1 where unknown."""
    rates = history[LEARNING_RATES]
    if not len(rates) or not rates.labels:
        return 1.0
    first = float(np.nanmax(rates.values[0]))
    last = float(np.nanmax(rates.values[-1])) if rate is None else rate
    ratio = last / first if first > 0 and last > 0 else 1.0
    return ratio if 0.0 < ratio < math.inf else 1.0


@derived
def lengthening(history: History) -> float | None:
    """Return a factor for the learning rate that makes updates ordinary; None where it is unknown.

    It aims at half of an ordinary first update: what is too short can be lengthened again.

    Args:
        history: What was recorded.

    Returns:
        A number from 3 to 10,000 with one digit.

    Example:
        >>> from lightning_plateau.testing import history
        >>> lengthening(history({UPDATE_RATIOS: {"fc.weight": [1e-5, 1e-5]}}))
        500.0
    """
    moved = weight_updates(history)
    if moved is None:
        return None
    # As it is now: weights, activations and optimizer may have been changed since the start.
    lately = float(np.median([size for _, size in moved.by_step[-LATEST:]]))
    if not lately > 0:
        return None
    factor = ORDINARY / 2 / lately
    return float(f"{min(MOST_RAISE, max(LEAST_RAISE, factor)):.0e}")


def _is_weight(name: str) -> bool:
    return not name.endswith("bias")
