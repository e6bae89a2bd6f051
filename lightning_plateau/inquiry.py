"""The inquiry: experiments on a running training, one after the other, within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.experiments.budget import Budget
from lightning_plateau.experiments.experiment import Bench, Experiment, Result, conduct
from lightning_plateau.experiments.plan import next_of_check, next_when_stuck
from lightning_plateau.experiments.sandbox import copied
from lightning_plateau.occasions import Check, When
from lightning_plateau.training.run import Run

SHARE_OF_RUN = 0.02
"""Share of the time of a run that experiments may take."""
LEAST_S = 5.0
"""Seconds that they may take in any run: in a short one a share would allow nothing."""
STEPS_OF_A_CHECK = {True: 200.0, "thorough": 500.0}


class Inquiry:
    """Decides which experiment comes next, gathers its batches, and makes it.

    An experiment is made before the batch after those that it was planned at: it needs batches as
    ``training_step`` receives them, and one that has gone through it may have been changed.

    Args:
        run: The run.
        when: ``"when-stuck"`` or ``"never"``.
        check: Whether to begin with those that are worth making before any training;
            ``"thorough"`` for those too that say how to go on when nothing is wrong.
        budget: What all of them may take together.
        agree: Makes a decision that every rank shares: true where it is on any of them.

    Attributes:
        has_news: Whether something was measured that no diagnosis has seen yet; who diagnoses
            clears it.
    """

    def __init__(
        self,
        run: Run,
        when: When = "when-stuck",
        *,
        check: Check = False,
        budget: Budget | None = None,
        agree: Callable[[bool], bool] = bool,
    ) -> None:
        self.has_news = False
        self._run = run
        self._when = when
        self._checking = check
        self._made: list[str] = []
        self._given: list[Any] = []
        self._began_s = time.monotonic()
        self._began_step = run.step
        steps = STEPS_OF_A_CHECK[check] if check else float("inf")
        self._budget = budget or Budget(steps, agree=agree)
        self._wanted: Experiment | None = next_of_check(History(), ()) if check else None

    @property
    def obstacle(self) -> str | None:
        """Why no experiment can be made of this run; None where they can."""
        if any(adapter.sharded or adapter.deepspeed for adapter in self._run.adapters):
            return "the parameters are spread over the ranks, and cannot be copied"
        return None

    # -- what comes next ------------------------------------------------------------------------

    def consider(self, history: History, findings: Sequence[Finding]) -> bool:
        """Plan what comes next; return whether something does, which is worth waiting for.

        Args:
            history: What was recorded so far.
            findings: What is wrong now, the most probable cause first.
        """
        if self._wanted is None and self._checking:
            self._wanted = self._next_of_check(history)
        if self._wanted is None and self._when != "never":
            self._wanted = self._next_when_stuck(history, findings)
        if self._wanted is None:
            self._given.clear()
        return self._wanted is not None

    def _next_when_stuck(self, history: History, findings: Sequence[Finding]) -> Experiment | None:
        """Return the next experiment that can be afforded; what cannot does not stop the others."""
        passed_over: list[str] = []
        while True:
            wanted = next_when_stuck(history, findings, [*self._made, *passed_over])
            if wanted is None or self._affordable(wanted, history):
                return wanted
            passed_over.append(wanted.name)

    def _next_of_check(self, history: History) -> Experiment | None:
        """Return the next experiment of the check that its steps suffice for."""
        passed_over: list[str] = []
        while True:
            made, thorough = [*self._made, *passed_over], self._checking == "thorough"
            wanted = next_of_check(history, made, thorough=thorough)
            if wanted is None or wanted.cost <= self._budget.steps - self._budget.spent_steps:
                return wanted
            passed_over.append(wanted.name)

    def _affordable(self, experiment: Experiment, history: History) -> bool:
        """Whether the experiment fits into the budget of time, as far as can be foreseen."""
        if self._checking:
            return experiment.cost <= self._budget.steps - self._budget.spent_steps
        elapsed_s = time.monotonic() - self._began_s
        step_s = elapsed_s / max(1, self._run.step - self._began_step)
        planned = history.profile.planned_steps or self._run.step
        self._budget.steps = float("inf")
        self._budget.time_s = max(LEAST_S, SHARE_OF_RUN * step_s * planned)
        if self._budget.spent_steps > 0:  # a step of the run may wait for data
            step_s = min(step_s, self._budget.spent_s / self._budget.spent_steps)
        needed_s = self._budget.spent_s + experiment.cost * step_s
        return not self._budget.agree(needed_s > self._budget.time_s)

    # -- making it ------------------------------------------------------------------------------

    def ready(self, batch: Any) -> bool:
        """Take a batch; return whether the experiment that is wanted has all it needs."""
        if self._wanted is None or self.obstacle is not None:
            return self._wanted is not None
        self._given.append(_kept(batch))
        return len(self._given) >= self._wanted.batches

    def before_batch(self, batch: Any) -> tuple[Experiment, Result] | None:
        """Take a batch, and make the experiment that is wanted if it has all it needs.

        Returns:
            The experiment and what came of it; None where none was made.
        """
        wanted = self._wanted
        if not self.ready(batch) or wanted is None:
            return None
        if self.obstacle is not None:
            result = Result(wanted.name, failure=self.obstacle)
        else:
            self._budget.agree(False)  # a rank on which watching has failed says so here
            bench = Bench(self._run.trainer, self._run.module, tuple(self._given), self._budget)
            result = conduct(wanted, bench)
        self._made.append(wanted.name)
        self._wanted = None
        self.has_news = True
        return wanted, result

    def release(self) -> None:
        """Let go of the batches."""
        self._wanted = None
        self._given.clear()

    # -- resume ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what was made, in plain types."""
        return {"made": list(self._made), "spent_s": self._budget.spent_s}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``, empty for a checkpoint that knew no experiments."""
        self._made = list(state.get("made", ()))
        self._budget.spent_s = state.get("spent_s", 0.0)
        self._checking, self._wanted = False, None


def _kept(batch: Any) -> Any:
    """Return a copy of ``batch``, or itself where it cannot be copied."""
    try:
        return copied(batch)
    except Exception:  # noqa: BLE001 - the experiment meets the same error, and reports it
        return batch
