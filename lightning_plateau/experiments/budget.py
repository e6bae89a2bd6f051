"""The budget of an experiment: so many steps, so much time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


class BudgetExceededError(RuntimeError):
    """An experiment needed more than it was given."""


@dataclass
class Budget:
    """Steps and seconds that experiments may take together.

    A pass forward and back counts as a step, a pass forward alone as a third of one.

    Attributes:
        steps: Most steps.
        time_s: Most seconds.
        agree: Makes a decision that every rank shares: true where it is on any of them. Once it
            was true, the experiment has ended on every rank.
        spent_steps: Steps made so far.
        spent_s: Seconds of the experiments that have ended.
        stopped: Whether the ranks have agreed to end the experiment under way.

    Example:
        >>> budget = Budget(steps=2)
        >>> budget.spend()
        >>> budget.spent_steps
        1.0
    """

    steps: float = 200.0
    time_s: float = float("inf")
    agree: Callable[[bool], bool] = bool
    spent_steps: float = 0.0
    spent_s: float = 0.0
    stopped: bool = False
    _began_s: float | None = field(default=None, repr=False)
    _asked: int = field(default=0, repr=False)

    def begin(self) -> None:
        """Start the clock of an experiment."""
        self._began_s = time.monotonic()
        self.stopped = False
        # Counted anew: the last experiment may have failed at another place on another rank.
        self._asked = 0

    def end(self) -> None:
        """Stop the clock."""
        if self._began_s is not None:
            self.spent_s += time.monotonic() - self._began_s
            self._began_s = None

    @property
    def elapsed_s(self) -> float:
        """Seconds taken so far, those of an experiment under way included."""
        running = 0.0 if self._began_s is None else time.monotonic() - self._began_s
        return self.spent_s + running

    def spend(self, steps: float = 1.0) -> None:
        """Take ``steps`` off the budget.

        Raises:
            BudgetExceededError: If so many steps, or so much time, are not left.
        """
        self.spent_steps += steps
        if self.spent_steps > self.steps:
            raise BudgetExceededError(f"it needs more than the {self.steps:.0f} steps allowed")
        self._asked += 1
        # Clocks differ from rank to rank; asking each time would cost a round trip a step.
        late = self._asked % 5 == 0 and self.elapsed_s > self.time_s
        if self._asked % 5 == 0 and self.agree(late):
            self.stopped = True
            raise BudgetExceededError(
                f"it needs more than the {self.time_s:.1f} s allowed"
                if late
                else "another rank gave it up"
            )
