"""LP303: single gradients are far larger than all others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import breakdown
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.quantities import one_digit
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS
from lightning_plateau.core.spikes import Spike, held_up, norm_spikes
from lightning_plateau.core.trend import finite_values, value_noise


@dataclass(frozen=True)
class GradientSpike(Rule):
    """Single gradients are far larger than all others.

    What it detects:
        Gradient norms ten times the usual one, and six standard deviations above it on a log scale,
        for ten steps at most. It is a symptom where one of them threw the loss back and training
        has not recovered: the loss is higher now than before it; or where there were three or more
        and the loss has not come down since the first. It is a remark where there were three or
        more that did no such harm.

    Why it matters:
        One step along such a gradient undoes what many steps have learned.

    Example:
        >>> from lightning_plateau.testing import history
        >>> norms = np.tile([1.0, 1.1, 0.9], 100)
        >>> norms[200] = 90.0
        >>> losses = np.where(np.arange(300) < 201, 1.0, 2.0)
        >>> GradientSpike().check(history({GRADIENT_NORM: norms}, loss=losses)).message
        'the gradient norm was 90 at step 200, usually 1, and the loss rose from 1 to 2 for good'

    Remedies:
        clip-gradients; roll-back where the weights are spoilt.

    Known limitations:
        Spikes within the first hundred steps have nothing to be compared with. A lasting growth is
        LP301's.

    References:
        Kumar et al., 2025, ZClip: Adaptive Spike Mitigation for LLM Pre-Training. Pascanu et al.,
        2013, On the difficulty of training recurrent neural networks (ICML).
    """

    code: ClassVar[str] = "LP303"
    name: ClassVar[str] = "gradient-spike"
    severity: ClassVar[Severity] = Severity.WARNING
    symptom: ClassVar[bool] = True
    requires: ClassVar = (GRADIENT_NORM, LOSS)
    explains: ClassVar = ("LP402", "LP404")
    remedies: ClassVar = ("clip-gradients", "roll-back", "decay-learning-rate")
    why: ClassVar[str] = "one step along such a gradient undoes what many steps have learned"

    least_spikes: int = 3
    least_rise: float = 0.25

    def check(self, history: History) -> Finding | None:
        """Return the symptom where a spike threw the loss back; a remark where none did."""
        if len(history.profile.optimizers) > 1 or breakdown(history).origin is not None:
            return None
        spikes = norm_spikes(history[GRADIENT_NORM])
        for spike in spikes:
            levels = self._thrown_back(history, spike)
            if levels is not None:
                low, high = levels
                rose = f"and the loss rose from {low:.4g} to {high:.4g} for good"
                return self._report(history, spike, len(spikes), rose)
        if len(spikes) < self.least_spikes:
            return None
        others = f"and {len(spikes) - 1} more were like it; "
        if held_up(history, spikes[0]):
            others += "the loss is no lower than before the first of them"
            return self._report(history, spikes[0], len(spikes), others)
        others += "training went on"
        remark = self._report(history, spikes[0], len(spikes), others)
        return replace(remark, severity=Severity.INFO, remedies=(), explains=())

    def _thrown_back(self, history: History, spike: Spike) -> tuple[float, float] | None:
        """Return the loss before a spike and now, where it rose at the spike and stayed up."""
        losses = history[LOSS]
        before = finite_values(losses.until(spike.step))[-20:]
        after = finite_values(losses.since(spike.step + 1))
        if len(before) < 10 or len(after) < 20:
            return None
        low, at_once = float(np.median(before)), float(np.median(after[:10]))
        now = float(np.median(after[-20:]))
        spread = max(value_noise(before), float(np.std(before)))
        limit = low + max(self.least_rise * abs(low), 3 * spread)
        return (low, now) if at_once > limit and now > limit else None

    def _report(self, history: History, spike: Spike, count: int, ended: str) -> Finding:
        return self.finding(
            history,
            0.7,
            f"the gradient norm was {spike.peak:.3g} at step {spike.step}, usually "
            f"{spike.before:.3g}, {ended}",
            evidence=(
                Evidence(GRADIENT_NORM.tag, spike.peak, 10 * spike.before, f"step {spike.step}"),
                Evidence("spikes", float(count)),
            ),
            fix=f"Trainer(gradient_clip_val={one_digit(2 * spike.before)})",
            step=spike.step,
        )
