"""roll-back: return to the last state that was well, with a smaller learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.rise import rise_since
from lightning_plateau.training.snapshot import Snapshot

MOST = 3


@dataclass(frozen=True)
class RollBack(Remedy):
    """Return to the last state that was well, and go on from there with a smaller learning rate.

    Args:
        factor: What the learning rates are multiplied by, above 0.
        to: ``"last"`` for the last good snapshot, ``"initial"`` for the first one.

    What it changes:
        Parameters, buffers, the state of the optimizers and the scale of the gradient scaler are
        copied back from a snapshot that was taken while the run was well. What counts steps and
        epochs goes on, and so do the learning-rate schedule and the random numbers: the run sees
        other batches than the first time. Then the learning rates are multiplied by the factor.

    When it helps:
        Where parameters are not finite, or a divergence has destroyed what was learned: there a
        smaller learning rate alone mends nothing.

    Safety:
        What was learned since the snapshot is lost. It happens at most three times in a run, and
        not where the loss was no lower then, nor where the weights of then do no better on the
        batch under way: there the task has changed, and the loss falls again by itself.
        Snapshots lie in the memory of the host, up to three of them, each the size of a
        checkpoint; they are kept only where this remedy may be tried.

    How to undo:
        It is reverted by itself where it does not help: the state before it is part of the trial.

    Example:
        >>> RollBack(to="initial").factor
        0.5

    References:
        Chowdhery et al., 2022, "PaLM: Scaling Language Modeling with Pathways" (restart before a
        spike, skip the batches that led to it).
    """

    name: ClassVar[str] = "roll-back"
    safety: ClassVar[Safety] = Safety.UNSAFE
    keeps_state: ClassVar[bool] = True
    levels: ClassVar = ({"factor": 0.5}, {"factor": 0.1}, {"factor": 0.01})

    factor: float = 0.5
    to: Literal["last", "initial"] = "last"

    def __post_init__(self) -> None:
        if not 0.0 < self.factor < float("inf"):
            raise ValueError(f"factor must be a positive finite number, but is {self.factor}")
        if self.to not in ("last", "initial"):
            raise ValueError(f"to must be 'last' or 'initial', but is {self.to!r}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the run cannot be rolled back; None where it can."""
        target = self._target(run)
        if target is None:
            return "there is no snapshot to go back to"
        if rise_since(run.history, target.step) < 0.0:
            return f"the loss was no lower at step {target.step}, the last state that was well"
        if run.snapshots.restored >= MOST:
            return f"the run was rolled back {run.snapshots.restored} times already"
        reasons = (
            adapter.obstacle(action)
            for adapter in run.adapters
            for action in ("roll-back", "scale-learning-rate")
        )
        return next((reason for reason in reasons if reason is not None), None)

    def apply(self, run: Any) -> Change:
        """Copy the state back, and scale the learning rates."""
        target = self._target(run)
        if target is None:
            raise ValueError("a run can be rolled back to a snapshot, but there is none")
        before = {"state_of_step": run.step, **run.learning_rates}
        now = Snapshot.take(run)
        target.restore(run, schedule=False)
        rates = [adapter.scale_learning_rate(self.factor) for adapter in run.adapters]
        run.snapshots.restored += 1
        after = {"state_of_step": target.step, **run.learning_rates}
        return Change(before, after, {"state": now.state_dict(), "learning_rates": rates})

    def revert(self, run: Any, change: Change) -> None:
        """Return to the state before; that the run was rolled back once more still counts."""
        Snapshot.from_state_dict(change.undo["state"]).restore(run, schedule=False)
        for adapter, undo in zip(run.adapters, change.undo["learning_rates"], strict=True):
            adapter.restore_learning_rate(undo)

    def _target(self, run: Any) -> Snapshot | None:
        snapshots = run.snapshots
        found: Snapshot | None = (
            snapshots.initial if self.to == "initial" else snapshots.latest(before=run.step)
        )
        return found
