"""warm-up: let the learning rate rise from near zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.training.pace import Pace, WarmUpPlan

SHARE = 20
SHORTEST, LONGEST = 10, 1000


@dataclass(frozen=True)
class WarmUp(Remedy):
    """Let the learning rate rise in a straight line to what it would be.

    Args:
        steps: Optimizer steps until the full rate, at least 1; None for a twentieth of the run,
            from 10 to 1,000 steps.

    What it changes:
        The length of the coming updates. The rates are set for the moment of the update and put
        back after it: schedules and checkpoints see yours. A run that has learned nothing begins
        again from its first weights.

    When it helps:
        Where the first steps do the damage (LP406, LP402): in deep networks without normalization,
        in transformers, with large batches, and with Adam while its estimates rest on few steps.

    Safety:
        A sound training loses a few steps. It lasts over a resume; resumed without this library the
        run goes on at your own rate. It is refused for compiled steps and for DeepSpeed, and where
        your schedule warms up itself.

    How to undo:
        It is reverted by itself where it does not help. To keep it, write a schedule:
        ``torch.optim.lr_scheduler.LinearLR``.

    Example:
        >>> WarmUp(steps=100).steps
        100

    References:
        Goyal et al., 2017, "Accurate, Large Minibatch SGD". Liu et al., 2020, "On the Variance of
        the Adaptive Learning Rate and Beyond" (ICLR).
    """

    name: ClassVar[str] = "warm-up"
    safety: ClassVar[Safety] = Safety.UNSAFE
    lasting: ClassVar[bool] = True

    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, but is {self.steps}")

    def obstacle(self, run: Any) -> str | None:
        """Return why rates cannot be set for a step; None where they can."""
        return pace_obstacle(run)

    def apply(self, run: Any) -> Change:
        """Begin to warm up."""
        planned = run.history.profile.planned_steps or LONGEST * SHARE
        steps = self.steps or min(LONGEST, max(SHORTEST, planned // SHARE))
        change = Change(
            {"warm_up_steps": 0}, {"warm_up_steps": steps}, {"start": run.step, "steps": steps}
        )
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Go on at the full rate."""
        run.detach("pace")

    def resume(self, run: Any, change: Change) -> None:
        """Go on warming up."""
        plan = WarmUpPlan(change.undo["start"], change.undo["steps"])
        run.attach("pace", Pace(run.adapters, plan, lambda: int(run.step)))


def pace_obstacle(run: Any) -> str | None:
    """Return why learning rates cannot be set for the length of a step; None where they can."""
    if not run.adapters:
        return "there is no optimizer"
    if any(adapter.deepspeed for adapter in run.adapters):
        return "DeepSpeed steps the optimizer"
    if any(adapter.compiled for adapter in run.adapters):
        return "the step of the optimizer is compiled"
    return "another pace is set already" if "pace" in run.attachments else None
