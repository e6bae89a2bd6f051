"""What watching may cost: where steps are short, the run is looked at closely less often."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

CAP = 0.01
"""Share of a run's time that close looks may take."""
ORDINARY = 31
"""Ordinary steps whose median tells how long one takes."""


class Economy:
    """Measures by the host's clock what close looks cost, and says when the next is affordable.

    A close look is a sampled step and a diagnosis: some milliseconds, whatever a step takes. Where
    a step takes 100 of them, every planned look is affordable; where it takes half of one, looks
    are spread until they take their share of the time. What a step takes beyond an ordinary one
    counts, in our hooks or not: a tape slows down the forward pass. What the first looks have cost,
    before anybody asks, is let go.

    Args:
        cap: Share of the time of a run that looks may take.
        clock: Returns seconds.

    Example:
        >>> economy = Economy(clock=iter([0.0, 1.0, 1.0, 1.5, 2.0, 200.0]).__next__)
        >>> economy.begin_step()  # at 0 s
        >>> economy.affordable()
        True
        >>> economy.begin_step()
        >>> economy.end_step(closely=True)  # half a second
        >>> economy.affordable(), economy.affordable()  # at 2 s, and at 200 s
        (False, True)
    """

    def __init__(self, cap: float = CAP, clock: Callable[[], float] = time.perf_counter) -> None:
        self._cap = cap
        self._clock = clock
        self._opened_s: float | None = None
        self._asked = False
        self._began_s = 0.0
        self._ordinary: deque[float] = deque(maxlen=ORDINARY)
        self._spent_s = 0.0
        self._before_s = 0.0
        self._look_s = 0.0

    def begin_step(self) -> None:
        """Note that a batch begins."""
        self._began_s = self._clock()
        if self._opened_s is None:
            self._opened_s = self._began_s

    def end_step(self, *, closely: bool) -> None:
        """Note that it ends; ``closely``: it was looked at closely, or the run after it."""
        taken_s = self._clock() - self._began_s
        if not closely:
            self._ordinary.append(taken_s)
            return
        usual_s = median(self._ordinary) if self._ordinary else 0.0
        self._spent_s += max(0.0, taken_s - usual_s)

    def affordable(self) -> bool:
        """Whether a close look may be taken now."""
        now_s = self._clock()
        if not self._asked or self._opened_s is None:
            self._asked, self._spent_s = True, 0.0
            return True
        # What was spent since the last look is what a look costs: it comes with the steps after.
        cost_s = max(self._look_s, self._spent_s - self._before_s)
        if self._spent_s + cost_s > self._cap * (now_s - self._opened_s):
            return False
        self._look_s = 0.5 * (self._look_s + self._spent_s - self._before_s)
        self._before_s = self._spent_s
        return True
