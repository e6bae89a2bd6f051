"""Units that died: alive at first, zero for every sample later."""

from __future__ import annotations

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import ACTIVATION_DEAD
from lightning_plateau.core.statistics import row_medians

LATEST = 3
MOSTLY, DIED = 0.5, 0.25
"""Shares of the units of a layer: most of them, and those that died while training went on."""


@derived
def units_died(history: History) -> bool:
    """Whether most units of a rectifier are dead that were alive at first.

    What is dead from the start was made so; what dies was killed by a step that was too long.

    Example:
        >>> from lightning_plateau.testing import history
        >>> units_died(history({ACTIVATION_DEAD: {"act (relu)": [0.1, 1.0, 1.0, 1.0]}}))
        True
        >>> units_died(history({ACTIVATION_DEAD: {"act (relu)": [1.0, 1.0, 1.0, 1.0]}}))
        False
    """
    dead = history[ACTIVATION_DEAD]
    if len(dead) < 2 or not dead.labels:
        return False
    first, latest = dead.values[0], row_medians(dead.values[-LATEST:].T)
    return bool(((latest > MOSTLY) & (latest - first > DIED)).any())
