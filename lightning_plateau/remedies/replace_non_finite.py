"""replace-non-finite: set NaN and infinity in the gradients to zero."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety


@dataclass(frozen=True)
class ReplaceNonFinite(Remedy):
    """Set what is NaN or infinite in the gradients to zero, and make the step.

    What it changes:
        In a step whose gradients are not all finite, the elements that are not become zero and the
        step is made with the rest; running statistics of normalization layers are put back to what
        they were before the batch. It takes the place of skip-step, which leaves such steps out.

    When it helps:
        Where *every* step holds a few such elements (LP202): a square root or a norm at zero, a
        logarithm in one corner of the network. Where all elements are NaN there is nothing left to
        step along, and it is reverted.

    Safety:
        The step no longer follows the gradient of the loss, and what made the NaN stays. Optimizers
        with momentum move also where the gradient was replaced. Refused under a gradient scaler,
        which skips such steps before it sees them, and where gradients are shards.

    How to undo:
        It is reverted by itself where it does not help. Mend what makes the NaN: the finding names
        the operation.

    Example:
        >>> ReplaceNonFinite().standing
        True

    References:
        Zhang et al., 2021, "AutoTrainer" (ICSE).
    """

    name: ClassVar[str] = "replace-non-finite"
    safety: ClassVar[Safety] = Safety.UNSAFE
    standing: ClassVar[bool] = True

    def obstacle(self, run: Any) -> str | None:
        """Return why gradients cannot be mended; None where they can."""
        if not run.adapters:
            return "there is no optimizer"
        if run.scaler is not None:
            return "the gradient scaler skips such steps by itself"
        if any(a.accelerated and not a.fused for a in run.adapters) and not (
            run.guard.settings.wait_for_device
        ):
            return "the optimizer is not fused, and the host may not wait for the device"
        reasons = [adapter.obstacle("clip") for adapter in run.adapters]
        return next((reason for reason in reasons if reason is not None), None)

    def apply(self, run: Any) -> Change:
        """Begin to replace."""
        before = run.guard.settings.replace_non_finite
        run.guard.settings = replace(run.guard.settings, replace_non_finite=True)
        held = {"replace_non_finite": before}
        return Change(held, {"replace_non_finite": True}, held)

    def revert(self, run: Any, change: Change) -> None:
        """Leave the gradients as they are again."""
        run.guard.settings = replace(run.guard.settings, **change.undo)
