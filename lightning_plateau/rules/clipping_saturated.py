"""LP307: nearly every gradient is clipped, and by much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.ceiling import ceiling
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import CLIP_COEFFICIENT, GRADIENT_NORM
from lightning_plateau.core.updates import adaptive


@dataclass(frozen=True)
class ClippingSaturated(Rule):
    """Nearly every gradient is clipped, and by much.

    What it detects:
        In a training that fails: most sampled steps were clipped, to a tenth of the gradient or
        less (a half, where the optimizer is not adaptive, makes it a suspect). Adam and its kin
        undo a constant factor, so with them it counts only where what is left of a gradient is so
        small that their ``eps`` outweighs it. Where gradients are clipped before anybody could see
        them, their norms give it away: they all agree.

    Why it matters:
        Every step has the length that the clip value allows, not the one that the gradient asks
        for: the learning rate is not what it seems to be.

    Example:
        >>> from lightning_plateau.core.profile import OptimizerFact, Profile
        >>> from lightning_plateau.testing import history
        >>> profile = Profile(optimizers=(OptimizerFact("SGD"),), gradient_clip_val=0.01)
        >>> run = history({CLIP_COEFFICIENT: [0.01] * 8}, loss=[2.3] * 8, profile=profile)
        >>> ClippingSaturated().check(run).message
        'clipping leaves 1 % of a typical gradient: 100 % of the sampled steps were clipped'

    Remedies:
        Advice only: raise the clip value to where one step in ten is clipped, or lower the learning
        rate and leave clipping off.

    Known limitations:
        In manual optimization the gradient before clipping is not seen, so it cannot be told by how
        much it was clipped.

    References:
        Godbole et al., 2023, Deep Learning Tuning Playbook (clip at the 90th percentile; with more
        than half of the updates clipped, lower the learning rate). Zhang et al., 2020, Why Gradient
        Clipping Accelerates Training (ICLR).
    """

    code: ClassVar[str] = "LP307"
    name: ClassVar[str] = "clipping-saturated"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (CLIP_COEFFICIENT, GRADIENT_NORM)
    explains: ClassVar = ("LP306", "LP401", "LP405", "LP407", "LP414", "LP802", "LP807", "LP808")
    why: ClassVar[str] = "steps have the length that the clip value allows, whatever the gradient"

    minimum_rows: int = 6
    least_share: float = 0.5
    most_left: float = 0.1
    suspicious_left: float = 0.5
    least_over_eps: float = 10.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where clipping leaves little of most gradients."""
        coefficients = history[CLIP_COEFFICIENT].finite.values
        if len(coefficients) < self.minimum_rows:
            return self._held(history)
        clipped = float((coefficients < 0.999).mean())
        if clipped <= self.least_share:
            return None
        left = float(np.median(coefficients))
        sure = self._sureness(history, left)
        if sure == 0.0:
            return None
        value = history.profile.gradient_clip_val
        norms = history[GRADIENT_NORM].finite.values
        usual = f"{np.quantile(norms, 0.9):.2g}" if len(norms) else "the 90th percentile"
        at = "" if value is None else f" in place of {value:.3g}"
        return self.finding(
            history,
            sure,
            f"clipping leaves {100 * left:.2g} % of a typical gradient: {100 * clipped:.0f} % of "
            "the sampled steps were clipped",
            evidence=(
                Evidence(CLIP_COEFFICIENT.tag, left, self.most_left, "median"),
                Evidence("share of steps clipped", clipped, self.least_share),
            ),
            fix=f"Trainer(gradient_clip_val={usual}){at}, where one step in ten is clipped",
        )

    def _sureness(self, history: History, left: float) -> float:
        if not adaptive(history):
            return 0.75 if left <= self.most_left else 0.5 if left <= self.suspicious_left else 0.0
        eps, size = _largest_eps(history), history.profile.trainable_size
        norms = history[GRADIENT_NORM].finite.values
        if eps is None or not size or not len(norms):
            return 0.0
        typical = left * float(np.median(norms)) / math.sqrt(size)
        return 0.75 if typical < self.least_over_eps * eps else 0.0

    def _held(self, history: History) -> Finding | None:
        """Judge gradients that were clipped before they could be seen."""
        held = ceiling(history[GRADIENT_NORM])
        if held is None or adaptive(history):
            return None
        return self.finding(
            history,
            0.45,
            f"most gradients have a norm of exactly {held:.4g}: they are clipped to it",
            evidence=(Evidence(GRADIENT_NORM.tag, held, where="held at"),),
            fix="clip at the 90th percentile of the norms before clipping",
        )


def _largest_eps(history: History) -> float | None:
    settings = [group.settings for o in history.profile.optimizers for group in o.groups]
    known = [one["eps"] for one in settings if isinstance(one.get("eps"), float)]
    return max((float(eps) for eps in known if isinstance(eps, float)), default=None)
