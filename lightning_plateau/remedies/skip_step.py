"""skip-step: leave out a step whose gradients are not finite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety


@dataclass(frozen=True)
class SkipStep(Remedy):
    """Leave out every step whose gradients hold NaN or infinity, exactly.

    What it changes:
        Such a step changes nothing: not the parameters, nor the momentum, step count and weight
        decay of the optimizer. Running statistics of normalization layers, which the forward pass
        has updated already, are put back to what they were before the batch (before the first batch
        of the step, where gradients are accumulated). The learning-rate scheduler and
        ``trainer.global_step`` go on, as they do when a gradient scaler skips a step.

    When it helps:
        With a damaged sample, an overflow, a division by zero in a rare batch. It does not help
        where *every* step is not finite; then the parameters themselves are usually broken.

    Safety:
        A step whose gradients are finite is not touched, bit for bit. In DDP gradients are equal on
        all ranks, so all skip together. Under a gradient scaler, which skips by itself, only
        running statistics that are not finite are put back. With a fused optimizer of torch
        (``fused=True``) the decision stays on the device. On the CPU it costs one look at the
        norms. On an accelerator without a fused optimizer the host reads the norms once a step, and
        waits for them.

    How to undo:
        ``policy="observe"``.

    Example:
        >>> from lightning_plateau.remedies import by_name
        >>> by_name()["skip-step"]().safety
        <Safety.SAFE: 'safe'>

    References:
        Micikevicius et al., 2018, "Mixed Precision Training" (skipped steps).
    """

    name: ClassVar[str] = "skip-step"
    safety: ClassVar[Safety] = Safety.SAFE
    standing: ClassVar[bool] = True

    def obstacle(self, run: Any) -> str | None:
        """Return why no optimizer of the run can skip; None where one can."""
        reasons = [_obstacle(adapter, run.guard.settings) for adapter in run.adapters]
        if not reasons:
            return "there is no optimizer"
        return None if None in reasons else reasons[0]

    def apply(self, run: Any) -> Change:
        """Begin to skip."""
        before = run.guard.settings.skip_non_finite
        run.guard.settings = replace(run.guard.settings, skip_non_finite=True)
        return Change(
            {"skip_non_finite": before},
            {"skip_non_finite": True},
            {"skip_non_finite": before},
        )

    def revert(self, run: Any, change: Change) -> None:
        """Skip as before."""
        before = change.undo["skip_non_finite"]
        run.guard.settings = replace(run.guard.settings, skip_non_finite=before)


def _obstacle(adapter: Any, settings: Any) -> str | None:
    reason: str | None = adapter.obstacle("skip")
    on_host = adapter.fused or settings.wait_for_device or not adapter.accelerated
    if reason is None and not on_host:
        return "the optimizer is not fused, and the host may not wait for the device"
    return reason
