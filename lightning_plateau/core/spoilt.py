"""Whether the first steps of a training have spoilt the network for good."""

from __future__ import annotations

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import ACTIVATION_DEAD
from lightning_plateau.core.stalled import stalled_short
from lightning_plateau.core.statistics import row_medians
from lightning_plateau.core.updates import weight_updates

HUGE_UPDATE = 0.5
"""Share by which one update changes the weights of a typical layer, and leaves little of them."""
LATEST = 3
MOSTLY, DIED = 0.5, 0.25
"""Shares of the units of a layer: most of them, and those that died while training went on."""


@derived
def units_died(history: History) -> bool:
    """Whether most units of a rectifier are dead that were alive at first.

    Example:
        >>> from lightning_plateau.testing import history
        >>> units_died(history({ACTIVATION_DEAD: {"relu": [0.1, 0.9, 0.9, 0.9]}}))
        True
    """
    dead = history[ACTIVATION_DEAD]
    if len(dead) < 2 or not dead.labels:
        return False
    first, latest = dead.values[0], row_medians(dead.values[-LATEST:].T)
    return bool(((latest > MOSTLY) & (latest - first > DIED)).any())


@derived
def spoilt(history: History) -> bool:
    """Whether updates as large as the weights have killed most units, and the loss rests since.

    What is left of the network may have learned something; the rest no smaller step brings back.

    Example:
        >>> spoilt(History())
        False
    """
    moved = weight_updates(history)
    huge = moved is not None and moved.peak >= HUGE_UPDATE
    return huge and units_died(history) and stalled_short(history)
