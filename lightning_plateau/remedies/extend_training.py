"""extend-training: go on for a while where the loss still falls at the planned end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety


@dataclass(frozen=True)
class ExtendTraining(Remedy):
    """Add epochs to a training that ends while it still learns.

    Args:
        share: Epochs to add as a share of those that were planned, above 0.

    What it changes:
        ``max_epochs``, and ``max_steps`` where it is set, in the last epoch. Learning-rate
        schedules are not stretched: they go on from where they are.

    When it helps:
        Where training and validation still fall clearly at the planned end (LP414).

    Safety:
        It takes more time than you have planned, so it is tried only with ``allow_user_overrides``,
        and refused where the learning rate has run out. A resumed run has the length that the
        Trainer is then given.

    How to undo:
        It is reverted by itself where the loss does not fall any more: the training then ends.

    Example:
        >>> ExtendTraining(share=0.5).share
        0.5

    References:
        Hoffer et al., 2017, "Train longer, generalize better" (NeurIPS). Prechelt, 1998, "Early
        Stopping – But When?".
    """

    name: ClassVar[str] = "extend-training"
    safety: ClassVar[Safety] = Safety.UNSAFE
    levels: ClassVar = ({"share": 0.25}, {"share": 0.25})

    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 < self.share < math.inf:
            raise ValueError(f"share must be a positive finite number, but is {self.share}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the training must end as planned; None where it need not."""
        loop = run.trainer.fit_loop
        if loop.max_epochs in (None, -1):
            return "the training has no planned number of epochs"
        if not run.allow_user_overrides:
            return "max_epochs is yours: Policy(allow_user_overrides=True) lets it be raised"
        return "the training is stopping already" if run.trainer.should_stop else None

    def apply(self, run: Any) -> Change:
        """Raise the limits."""
        loop = run.trainer.fit_loop
        epochs, steps = loop.max_epochs, loop.epoch_loop.max_steps
        loop.max_epochs = epochs + max(1, math.ceil(self.share * epochs))
        if steps not in (None, -1):
            loop.epoch_loop.max_steps = steps + max(1, math.ceil(self.share * steps))
        held = {"epochs": epochs, "steps": steps}
        return Change({"max_epochs": epochs}, {"max_epochs": loop.max_epochs}, held)

    def revert(self, run: Any, change: Change) -> None:
        """Put the old limits back; what is past them ends the training."""
        loop = run.trainer.fit_loop
        loop.max_epochs = change.undo["epochs"]
        loop.epoch_loop.max_steps = change.undo["steps"]
