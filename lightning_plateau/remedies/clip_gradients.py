"""clip-gradients: limit the norm of the gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from lightning_plateau.clipping import usual_norm
from lightning_plateau.core.remedy import Change, Remedy, Safety

CUSTOMARY = 1.0
_SETTINGS = ("clip_norm", "clip_share")


@dataclass(frozen=True)
class ClipGradients(Remedy):
    """Scale gradients down whose norm is larger than usual.

    Args:
        limit: Largest L2 norm of all gradients of an optimizer; None derives it from the run.
        share: Share of the usual norm that the derived limit is; at least 0.

    What it changes:
        From then on, gradients of an optimizer with a larger L2 norm than the limit are scaled down
        to it; smaller ones are not touched. The limit is the median of the last 200 sound norms of
        the run, recorded before clipping and without spikes, and is derived anew at each diagnosis.
        In a run that was never sound it is 1, the customary limit.
        The Trainer's own clipping, where it is on, comes afterwards: the smaller limit holds.

    When it helps:
        With single steps that throw the training back (LP301, LP303), in recurrent networks and
        with outliers in the data. Where *most* steps are clipped, the learning rate is too high.

    Safety:
        About half of all steps lie above the median and are shortened, by little. With SGD this
        lowers the effective learning rate; Adam hardly notices. It waits for nothing: on the device
        the coefficient is computed and applied there.

    How to undo:
        It is reverted by itself where it does not help. To clip for good, write
        ``Trainer(gradient_clip_val=...)``: what you set wins, and this remedy steps back.

    Example:
        >>> ClipGradients(limit=1.0).name
        'clip-gradients'

    References:
        Pascanu et al., 2013, "On the difficulty of training recurrent neural networks". Kumar et
        al., 2025, "ZClip: Adaptive Spike Mitigation for LLM Pre-Training".
    """

    name: ClassVar[str] = "clip-gradients"
    safety: ClassVar[Safety] = Safety.UNSAFE
    standing: ClassVar[bool] = True
    levels: ClassVar = ({"share": 1.0}, {"share": 0.5}, {"share": 0.25})

    limit: float | None = None
    share: float = 1.0

    def obstacle(self, run: Any) -> str | None:
        """Return why gradients cannot or must not be clipped; None where they may."""
        own = run.trainer.gradient_clip_val
        if own and not run.allow_user_overrides:
            return f"gradient_clip_val is set to {own}"
        reasons = [adapter.obstacle("clip") for adapter in run.adapters]
        if not reasons:
            return "there is no optimizer"
        if None not in reasons:
            return str(reasons[0])
        return None

    def apply(self, run: Any) -> Change:
        """Begin to clip."""
        settings = run.guard.settings
        before = {name: getattr(settings, name) for name in _SETTINGS}
        if self.limit is not None:
            after = {"clip_norm": self.limit, "clip_share": None}
        else:
            usual = None if run.worthless else usual_norm(run.history)
            if usual is None:
                after = {"clip_norm": self.share * CUSTOMARY, "clip_share": None}
            else:
                after = {"clip_norm": self.share * usual, "clip_share": self.share}
        run.guard.settings = replace(settings, **after)
        return Change({"clip_norm": before["clip_norm"]}, {"clip_norm": after["clip_norm"]}, before)

    def revert(self, run: Any, change: Change) -> None:
        """Clip as before."""
        run.guard.settings = replace(run.guard.settings, **change.undo)
