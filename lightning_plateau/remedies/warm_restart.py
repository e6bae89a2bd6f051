"""warm-restart: begin the learning rate high once more, and let it fall again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lightning_plateau.core.history import History
from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.signal import LEARNING_RATES
from lightning_plateau.remedies.warm_up import pace_obstacle
from lightning_plateau.training.pace import Pace, RestartPlan

CUSTOMARY_STEPS = 1000


@dataclass(frozen=True)
class WarmRestart(Remedy):
    """Begin at a high learning rate once more, and fall along a cosine until the end.

    Args:
        share: The new peak as a share of the highest rate so far, above 0 and at most 1.

    What it changes:
        The length of the coming updates: they begin at the new peak and fall to what your schedule
        says by the end of the run (in 1,000 steps where the end is not known). The rates are set
        for the moment of the update and put back after it: schedules and checkpoints see yours.

    When it helps:
        Where a schedule has run out long before the training (LP408): the steps that are left are
        too short to lead anywhere.

    Safety:
        The loss rises at first; where it does not come down again, the state before is restored.
        The schedule is your choice, so it is tried only with ``allow_user_overrides``.

    How to undo:
        It is reverted by itself where it does not help. To keep it, use
        ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``, or a longer schedule.

    Example:
        >>> WarmRestart(share=1.0).share
        1.0

    References:
        Loshchilov and Hutter, 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts" (ICLR).
    """

    name: ClassVar[str] = "warm-restart"
    safety: ClassVar[Safety] = Safety.UNSAFE
    lasting: ClassVar[bool] = True
    levels: ClassVar = ({"share": 0.5}, {"share": 0.1})

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share must be above 0 and at most 1, but is {self.share}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the schedule cannot or must not be overruled; None where it may."""
        if any(adapter.schedulers for adapter in run.adapters) and not run.allow_user_overrides:
            return "the schedule is yours: Policy(allow_user_overrides=True) lets it be restarted"
        return pace_obstacle(run)

    def apply(self, run: Any) -> Change:
        """Begin again at the peak."""
        planned = run.history.profile.planned_steps
        steps = max(1, planned - run.step) if planned else CUSTOMARY_STEPS
        peaks = {label: self.share * rate for label, rate in _highest(run.history, run).items()}
        before = run.learning_rates
        names = dict(zip(before, peaks.values(), strict=True))
        change = Change(before, names, {"start": run.step, "steps": steps, "peaks": peaks})
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Go on at the rates of the schedule."""
        run.detach("pace")

    def resume(self, run: Any, change: Change) -> None:
        """Go on along the cosine."""
        undo = change.undo
        plan = RestartPlan(undo["start"], undo["steps"], dict(undo["peaks"]))
        run.attach("pace", Pace(run.adapters, plan, lambda: int(run.step)))


def _highest(history: History, run: Any) -> dict[str, float]:
    """Return the highest learning rate so far of each group by label."""
    several = len(run.adapters) > 1
    series = history[LEARNING_RATES]
    highest = {}
    for adapter in run.adapters:
        for place, group in enumerate(adapter.optimizer.param_groups):
            label = f"{adapter.index}.{place}" if several else f"{place}"
            seen = series.column(label).values
            known = [float(group["lr"]), float(group.get("initial_lr", 0.0))]
            highest[label] = float(np.nanmax([*known, *seen]))
    return highest
