"""stop-training: end a training that cannot succeed, and say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety


@dataclass(frozen=True)
class StopTraining(Remedy):
    """End the training after the batch under way.

    Args:
        reason: Why, for the journal and the report.

    What it changes:
        ``trainer.should_stop`` is set. Lightning ends the batch, validates once more and calls the
        hooks of an ordinary end, so checkpoints and loggers are complete. Where ``min_epochs`` or
        ``min_steps`` is set, Lightning goes on until then.

    When it helps:
        Where all that could be tried was tried and the fault came back: the hours that are left are
        better spent on a change of code or data.

    Safety:
        The training ends. Nothing that was learned is changed.

    How to undo:
        Resume from the last checkpoint.

    Example:
        >>> StopTraining().final
        True

    References:
        Prechelt, 1998, "Early Stopping – But When?".
    """

    name: ClassVar[str] = "stop-training"
    safety: ClassVar[Safety] = Safety.UNSAFE
    final: ClassVar[bool] = True

    reason: str = "the fault came back after every remedy that may be tried"

    def obstacle(self, run: Any) -> str | None:
        """Return None: any training can be stopped, unless it is stopping already."""
        return "the training is stopping already" if run.trainer.should_stop else None

    def apply(self, run: Any) -> Change:
        """Ask the Trainer to stop."""
        before = {"should_stop": bool(run.trainer.should_stop), "stop_reason": run.stop_reason}
        run.stop(self.reason)
        return Change({"should_stop": before["should_stop"]}, {"should_stop": True}, before)

    def revert(self, run: Any, change: Change) -> None:
        """Take the request back."""
        run.trainer.should_stop = change.undo["should_stop"]
        run.stop_reason = change.undo["stop_reason"]
