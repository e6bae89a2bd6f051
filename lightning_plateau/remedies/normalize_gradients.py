"""normalize-gradients: make every step equally long, whatever the size of the gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.updates import adaptive
from lightning_plateau.training.clipping import usual_norm

CUSTOMARY = 1.0
_SETTINGS = ("normalize", "normal_norm")


@dataclass(frozen=True)
class NormalizeGradients(Remedy):
    """Scale the gradients to a fixed norm, up as well as down.

    Args:
        per: ``"all"`` scales all gradients of an optimizer together and keeps their direction;
            ``"layer"`` gives each parameter an equal part of the norm.
        norm: The L2 norm that the gradients get, above 0; None takes the usual one of the run, and
            1 where nothing is usual.

    What it changes:
        From then on the gradients of each optimizer are scaled before the update. ``"layer"`` turns
        the direction of the step too: layers whose gradients have vanished move as far as others.

    When it helps:
        Where plain SGD crawls over a plateau because gradients are tiny, leaps because they are
        huge (LP301), or moves the last layers only (LP302).

    Safety:
        Near a minimum gradients get small for a reason: with steps of one length the loss hovers
        above it, unless the learning rate falls. Refused for Adam and its like, which normalize
        their steps themselves, and where steps cannot be looked at.

    How to undo:
        It is reverted by itself where it does not help.

    Example:
        >>> NormalizeGradients(per="layer").standing
        True

    References:
        Hazan et al., 2015, "Beyond Convexity: Stochastic Quasi-Convex Optimization". You et al.,
        2017, "Large Batch Training of Convolutional Networks" (LARS).
    """

    name: ClassVar[str] = "normalize-gradients"
    safety: ClassVar[Safety] = Safety.UNSAFE
    standing: ClassVar[bool] = True
    levels: ClassVar = ({"per": "all"}, {"per": "layer"})

    per: Literal["all", "layer"] = "all"
    norm: float | None = None

    def __post_init__(self) -> None:
        if self.per not in ("all", "layer"):
            raise ValueError(f"per must be 'all' or 'layer', but is {self.per!r}")
        if self.norm is not None and not 0.0 < self.norm < math.inf:
            raise ValueError(f"norm must be a positive finite number, but is {self.norm}")

    def obstacle(self, run: Any) -> str | None:
        """Return why gradients cannot be normalized, or need not; None where they may."""
        if not run.adapters:
            return "there is no optimizer"
        if adaptive(run.history):
            return "the optimizer normalizes its steps itself"
        reasons = [adapter.obstacle("clip") for adapter in run.adapters]
        return next((reason for reason in reasons if reason is not None), None)

    def apply(self, run: Any) -> Change:
        """Begin to normalize."""
        settings = run.guard.settings
        before = {name: getattr(settings, name) for name in _SETTINGS}
        usual = None if run.worthless else usual_norm(run.history)
        after = {"normalize": self.per, "normal_norm": self.norm or usual or CUSTOMARY}
        run.guard.settings = replace(settings, **after)
        return Change(before, after, before)

    def revert(self, run: Any, change: Change) -> None:
        """Leave the gradients as they are again."""
        run.guard.settings = replace(run.guard.settings, **change.undo)
