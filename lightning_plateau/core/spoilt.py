"""Whether the first steps of a training have spoilt the network for good."""

from __future__ import annotations

from lightning_plateau.core.derived import derived
from lightning_plateau.core.dying import units_died
from lightning_plateau.core.history import History
from lightning_plateau.core.stalled import stalled_short
from lightning_plateau.core.updates import weight_updates

HUGE_UPDATE = 0.5
"""Share by which one update changes the weights of a typical layer, and leaves little of them."""


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
