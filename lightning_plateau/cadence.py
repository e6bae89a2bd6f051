"""When to diagnose: often while a run is young or alarming, less and less while it goes on well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.history import History, Series
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS

GROWTH = 1.2
YOUNG = 6
LONGEST = 20
SPIKE = 4.0


@dataclass(frozen=True)
class Cadence:
    """Decides after a drain whether to ask the rules; a function of what was recorded alone.

    Asking all rules takes tens of milliseconds, whatever a step takes. The first six drains are
    diagnosed, then each time the run has grown by a fifth, and at least one drain in twenty. A
    block that holds a value which is not finite, or a loss or gradient norm far beyond the earlier
    ones, is diagnosed at once. Every rank, and a resumed run, decides alike.

    Attributes:
        every_n_steps: Optimizer steps between drains.

    Example:
        >>> from lightning_plateau.testing import history
        >>> cadence = Cadence(50)
        >>> steps = [50 * n for n in range(1, 21)]
        >>> [step for step in steps if cadence.due(history(loss=[1.0] * step))][6:]
        [350, 400, 450, 550, 650, 800, 950, 1000]
    """

    every_n_steps: int

    def due(self, history: History, since: int = 0) -> bool:
        """Whether to diagnose ``history``, which a drain has just brought up to date.

        Args:
            history: What was recorded.
            since: Step at which the run was treated last: from there on it is young again.
        """
        drains = max(1, (history.step - since) // self.every_n_steps)
        return (
            drains <= YOUNG
            or drains % LONGEST == 0
            or _generation(drains) != _generation(drains - 1)
            or any(self._alarming(history[signal]) for signal in (LOSS, GRADIENT_NORM))
        )

    def _alarming(self, series: Series) -> bool:
        """Whether the last block is not finite, or lies far outside of what came before it."""
        latest = series.tail(self.every_n_steps).values
        earlier = series.tail(11 * self.every_n_steps).values[: -len(latest) or None]
        if not np.isfinite(latest).all():
            return True
        earlier = earlier[np.isfinite(earlier)]
        if len(earlier) < self.every_n_steps:
            return False
        low, middle, high = np.quantile(earlier, (0.05, 0.5, 0.95))
        return bool(latest.max() > high + SPIKE * (high - low) > middle)


def _generation(drains: int) -> int:
    return int(np.log(drains) / np.log(GROWTH)) if drains > 0 else -1
