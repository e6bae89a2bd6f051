"""clip-gradients: limit the norm of the gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.training.clipping import usual_norm

CUSTOMARY = 1.0
OUTSTANDING = 10.0
_SETTINGS = ("clip_norm", "clip_share", "clip_quantile", "clip_value", "clip_by_group")


@dataclass(frozen=True)
class ClipGradients(Remedy):
    """Scale gradients down whose norm is larger than usual.

    Args:
        limit: Largest L2 norm of all gradients of an optimizer; None derives it from the run.
        share: Share of the usual norm that the derived limit is, above 0.
        quantile: Quantile of the recent norms that counts as the usual one, between 0 and 1.
        by: ``"norm"`` scales all gradients of an optimizer together; ``"group"`` those of each
            parameter group; ``"value"`` cuts off single elements that are larger than ten times
            the usual one, or than ``limit``.

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
    quantile: float = 0.5
    by: Literal["norm", "group", "value"] = "norm"

    def __post_init__(self) -> None:
        if self.by not in ("norm", "group", "value"):
            raise ValueError(f"by must be 'norm', 'group' or 'value', but is {self.by!r}")
        if not 0.0 < self.quantile < 1.0:
            raise ValueError(f"quantile must be between 0 and 1, but is {self.quantile}")
        for name in ("limit", "share"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be a positive finite number, but is {value}")

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
        usual = None if run.worthless else usual_norm(run.history, self.quantile)
        norm = self.limit or self.share * (CUSTOMARY if usual is None else usual)
        follows = self.limit is None and usual is not None and self.by != "value"
        after = {
            "clip_norm": None if self.by == "value" else norm,
            "clip_share": self.share if follows else None,
            "clip_quantile": self.quantile,
            "clip_value": self._value(run, norm) if self.by == "value" else None,
            "clip_by_group": self.by == "group",
        }
        run.guard.settings = replace(settings, **after)
        shown = "clip_value" if self.by == "value" else "clip_norm"
        return Change({shown: before[shown]}, {shown: after[shown]}, before)

    def _value(self, run: Any, norm: float) -> float:
        """Return the largest element: ten times the root mean square of gradients of that norm."""
        if self.limit is not None:
            return self.limit
        size = sum(p.numel() for adapter in run.adapters for p in adapter.parameters)
        return OUTSTANDING * norm / math.sqrt(max(1, size))

    def revert(self, run: Any, change: Change) -> None:
        """Clip as before."""
        run.guard.settings = replace(run.guard.settings, **change.undo)
