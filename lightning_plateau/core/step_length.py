"""By how much to shorten or to lengthen the steps of a training, from how far its updates go."""

from __future__ import annotations

import numpy as np

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import UPDATE_RATIOS
from lightning_plateau.core.updates import weight_updates

ORDINARY = 0.01
"""‖Δw‖/‖w‖ of a first update that sound trainings make, within a factor of a few."""
SHORTEST, LONGEST = 1e-4, 0.5
LEAST_RAISE, MOST_RAISE = 3.0, 1e4


def shortening(history: History) -> float | None:
    """Return a factor for the learning rate that makes updates ordinary; None where it is unknown.

    The first update tells: later ones are made by weights that too long steps have already moved.

    Args:
        history: What was recorded.

    Returns:
        A number from 0.0001 to 0.5 with one digit; 0.5 where the first update was not too long.

    Example:
        >>> from lightning_plateau.testing import history
        >>> shortening(history({UPDATE_RATIOS: {"fc.weight": [0.8, 1e6], "fc.bias": [3.0, 1.0]}}))
        0.01
    """
    ratios = history[UPDATE_RATIOS]
    matrices = {fact.name for fact in history.profile.parameters if len(fact.shape) > 1}
    names = matrices.intersection(ratios.labels) or set(filter(_is_weight, ratios.labels))
    columns = [i for i, name in enumerate(ratios.labels) if name in names]
    for row in ratios.values[:, columns]:
        moved = row[np.isfinite(row) & (row > 0)]
        if len(moved):
            factor = ORDINARY / float(np.median(moved))
            return float(f"{min(LONGEST, max(SHORTEST, factor)):.0e}")
    return None


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
    if moved is None or not moved.typical > 0:
        return None
    factor = ORDINARY / 2 / moved.typical
    return float(f"{min(MOST_RAISE, max(LEAST_RAISE, factor)):.0e}")


def _is_weight(name: str) -> bool:
    return not name.endswith("bias")
