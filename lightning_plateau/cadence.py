"""When to diagnose: often while a run is young or alarming, less and less while it goes on well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.progress import progress
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS

GROWTH = 1.2
"""Factor by which a run grows from one diagnosis to the next."""
CALM_GROWTH = 1.5
"""The same from one close look to the next, while a run is young and well."""
YOUNG = 6
FIRST_STEPS = 500
LONGEST = 20
SPIKE = 4.0


@dataclass(frozen=True)
class Cadence:
    """Decides after a drain whether to ask the rules, by what was recorded.

    Asking all rules takes some milliseconds, whatever a step takes. The first six drains are
    diagnosed, then each time the run has grown by a fifth, and at least one drain in twenty. A
    block that holds a value which is not finite, or a loss or gradient norm far beyond the earlier
    ones, is diagnosed at once. Other diagnoses may be spared, and the close look that goes with
    each: in the first 500 steps of a run that is calm, until it has grown by half; then, where a
    step takes less than the rules do (see ``Economy``).

    Attributes:
        every_n_steps: Optimizer steps between drains.

    Example:
        >>> from lightning_plateau.testing import history
        >>> cadence = Cadence(50)
        >>> steps = [50 * n for n in range(1, 21)]
        >>> [step for step in steps if cadence.due(history(loss=[1.0] * step))][6:]
        [350, 400, 450, 550, 600, 650, 800, 900, 950, 1000]
    """

    every_n_steps: int

    def due(self, history: History, since: int = 0, *, spared: bool = False) -> bool:
        """Whether to diagnose ``history``, which a drain has just brought up to date.

        Args:
            history: What was recorded.
            since: Step at which the run was treated last: from there on it is young again.
            spared: Whether a diagnosis is left out that only the age of the run asks for.
        """
        drains = self._drains(history.step, since)
        planned = drains <= YOUNG or _grown(drains, GROWTH) or _grown(drains, CALM_GROWTH)
        return (planned and not spared) or drains % LONGEST == 0 or self.alarming(history)

    def calm(self, history: History, since: int = 0) -> bool:
        """Whether the loss has been falling of late, beyond doubt, and nothing is alarming.

        Example:
            >>> from lightning_plateau.testing import history
            >>> falling, still = (
            ...     history(loss=[0.99**n for n in range(200)]),
            ...     history(loss=[1] * 200),
            ... )
            >>> Cadence(50).calm(falling), Cadence(50).calm(still)
            (True, False)
        """
        losses = history[LOSS].since(since)
        falls = progress(losses.tail(len(losses) // 2)).slope < 0.0
        return falls and not self.alarming(history)

    def alarming(self, history: History) -> bool:
        """Whether losses or gradients of the last block are such as to be looked at at once."""
        known = _known_alarms(history)
        if self.every_n_steps not in known:
            series = (history[LOSS], history[GRADIENT_NORM])
            known[self.every_n_steps] = any(map(self._alarming, series))
        return known[self.every_n_steps]

    def young(self, step: int, since: int = 0) -> bool:
        """Whether the run is in its first 500 steps or six drains: there no look is too dear."""
        return self._drains(step, since) <= YOUNG or step - since <= FIRST_STEPS

    def bound(self, step: int, since: int = 0) -> bool:
        """Whether the run is looked at closely at ``step`` however calm it is.

        So it is each time it has grown by half while it is young, and at one drain in twenty.
        """
        drains = self._drains(step, since)
        grown = self.young(step, since) and _grown(drains, CALM_GROWTH)
        return grown or drains % LONGEST == 0

    def _drains(self, step: int, since: int) -> int:
        return max(1, (step - since) // self.every_n_steps)

    def _alarming(self, series: Series) -> bool:
        """Whether the last block is not finite, or lies far outside of what came before it."""
        latest = series.tail(self.every_n_steps).values
        earlier = series.tail(11 * self.every_n_steps).values[: -len(latest) or None]
        if not np.isfinite(latest).all():
            return True
        earlier = earlier[np.isfinite(earlier)]
        if len(earlier) < self.every_n_steps:
            return False
        low, middle, high = _quantiles(earlier)
        return bool(latest.max() > high + SPIKE * (high - low) > middle)


@derived
def _known_alarms(history: History) -> dict[int, bool]:
    """Return where a history keeps whether it alarms, by the length of a block."""
    return {}


def _quantiles(values: Floats) -> Floats:
    """Return the 5 %, 50 % and 95 % quantiles: ``np.quantile`` takes longer than the sorting."""
    places = (len(values) - 1) * np.array((0.05, 0.5, 0.95))
    found: Floats = np.interp(places, np.arange(len(values)), np.sort(values))
    return found


def _grown(drains: int, factor: float) -> bool:
    """Whether a run of so many drains has grown by ``factor`` once more with the last of them."""
    return _generation(drains, factor) != _generation(drains - 1, factor)


def _generation(drains: int, factor: float) -> int:
    return int(np.log(drains) / np.log(factor)) if drains > 0 else -1
