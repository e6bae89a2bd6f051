"""LP404: the loss leaps up, again and again or without coming down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_plateau.core.breakdown import breakdown
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.generalization import validation_holds
from lightning_plateau.core.history import History
from lightning_plateau.core.moving_target import has_bonus, target_moves
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LEARNING_RATES, LOSS
from lightning_plateau.core.spikes import (
    Spike,
    at_a_raised_rate,
    held_up,
    loss_spikes,
    standing_leap,
)


@dataclass(frozen=True)
class LossSpike(Rule):
    """The loss leaps up, again and again or without coming down.

    What it detects:
        Five steps in a row or more, and fewer than a hundred, whose loss is twice that of the
        hundred steps before, above the largest of them, and beyond the noise. It is a remark where
        training recovered. It is a symptom where that happened three times or more, the loss is no
        lower now than before the first time, and not below half of what it is without having
        learned anything. It is one as well where the loss leapt and in fifty steps or more has not
        come down to twice of what it was, as long as validation has not held. Restarts of the
        learning rate do not count, nor does a loss whose targets move or that is below zero.

    Why it matters:
        A leap throws training back by as many steps as it takes to come down again.

    Example:
        >>> from lightning_plateau.testing import history
        >>> import numpy as np
        >>> losses = np.ones(600)
        >>> for start in (200, 320, 440):
        ...     losses[start : start + 10] = 5.0
        >>> finding = LossSpike().check(history(loss=losses))
        >>> finding.message
        'the loss leapt 3 times, to 5 from 1 at step 200 first, and is no lower than before that'

    Remedies:
        clip-gradients; decay-learning-rate. roll-back where the loss has not come down: as soon as
        that has cost more steps than lie between the last state that was well and the leap.

    Known limitations:
        Leaps within the first hundred steps have nothing to be compared with. Runs with more than
        one optimizer are not judged.

    References:
        Chowdhery et al., 2022, PaLM: Scaling Language Modeling with Pathways (section 5.1). Molybog
        et al., 2023, A Theory on Adam Instability in Large-Scale Machine Learning.
    """

    code: ClassVar[str] = "LP404"
    name: ClassVar[str] = "loss-spike"
    severity: ClassVar[Severity] = Severity.WARNING
    symptom: ClassVar[bool] = True
    requires: ClassVar = (LOSS, LEARNING_RATES)
    remedies: ClassVar = ("clip-gradients", "decay-learning-rate")
    why: ClassVar[str] = "each leap throws training back by the steps that it takes to come down"

    least_spikes: int = 3

    def check(self, history: History) -> Finding | None:
        """Return the symptom where leaps keep the loss up; a remark where training recovers."""
        if len(history.profile.optimizers) > 1 or breakdown(history).origin is not None:
            return None
        standing = self._standing(history)
        if standing is not None:
            return standing
        spikes = [s for s in loss_spikes(history[LOSS]) if not at_a_raised_rate(history, s.step)]
        if not spikes:
            return None
        harmful = len(spikes) >= self.least_spikes and held_up(history, spikes[0])
        finding = self._report(history, spikes, harmful)
        return finding if harmful else replace(finding, severity=Severity.INFO, remedies=())

    def _standing(self, history: History) -> Finding | None:
        """Return the symptom of a leap that the loss has not come down from."""
        leap = standing_leap(history)
        if leap is None or at_a_raised_rate(history, leap.step) or target_moves(history):
            return None
        if validation_holds(history) or has_bonus(history):
            return None
        return self.finding(
            history,
            0.7,
            f"the loss leapt to {leap.peak:.4g} from {leap.before:.4g} at step {leap.step}, and "
            f"has not come down in {leap.rows} steps",
            evidence=(Evidence("height of the leap", leap.peak, 2 * leap.before),),
            step=leap.step,
            remedies=("roll-back",),
        )

    def _report(self, history: History, spikes: list[Spike], harmful: bool) -> Finding:
        first = spikes[0]
        times = f"{len(spikes)} times" if len(spikes) > 1 else "once"
        ended = "is no lower than before that" if harmful else "came down again"
        return self.finding(
            history,
            0.7,
            f"the loss leapt {times}, to {first.peak:.4g} from {first.before:.4g} at step "
            f"{first.step} first, and {ended}",
            evidence=(
                Evidence("leaps of the loss", float(len(spikes)), float(self.least_spikes)),
                Evidence("height of the first one", first.peak, 2 * abs(first.before)),
            ),
            step=first.step,
        )
