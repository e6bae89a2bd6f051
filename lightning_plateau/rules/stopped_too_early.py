"""LP414: training ended while it was still getting better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import chance_loss, guessing
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.generalization import generalization
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.learning_rates import share_of_peak
from lightning_plateau.core.progress import Progress, progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LEARNING_RATES, LOSS, VALIDATION_LOSS
from lightning_plateau.core.trend import noise_about_a_bend


@dataclass(frozen=True)
class StoppedTooEarly(Rule):
    """Training ended while it was still getting better.

    What it detects:
        At the planned end the loss was still falling, significantly and by a tenth at least in the
        last half of the run, and so was the validation loss where there is one, by half of that;
        the better part of what there is to learn was still ahead (the loss lay above half of that
        of guessing, or of the first loss); and the learning rate had not been brought down to its
        floor. Where the validation loss of numbers, or of yes or no, slows down so that it has
        little left to fall, nothing is said. It is no more than a piece of information where a
        third of the loss is gone already.

    Why it matters:
        Nothing may be wrong but the number of epochs.

    Example:
        >>> from lightning_plateau.testing import history
        >>> import numpy as np
        >>> losses = 2.3 * np.exp(-np.arange(200) / 400)
        >>> run = history({VALIDATION_LOSS: losses[::40]}, loss=losses, every=40, finished=True)
        >>> finding = StoppedTooEarly().check(run)
        >>> finding.message
        'training ended at step 200, the loss at 1.487 and falling 0.26 % a step, validation too'
        >>> StoppedTooEarly().check(history(loss=losses)) is None
        True

    Remedies:
        extend-training: resume with ``trainer.fit(ckpt_path="last")`` and a larger ``max_epochs``.

    Known limitations:
        How far a loss will fall is not known from its past: the number of steps is that which
        halves the loss at its present pace, no promise. Without validation it is less sure.

    References:
        Prechelt, 1998, Early Stopping – But When? Hoffer et al., 2017, Train Longer, Generalize
        Better (NeurIPS).
    """

    code: ClassVar[str] = "LP414"
    name: ClassVar[str] = "stopped-too-early"
    severity: ClassVar[Severity] = Severity.WARNING
    symptom: ClassVar[bool] = True
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS, VALIDATION_LOSS, LEARNING_RATES)
    explains: ClassVar = ("LP401", "LP405", "LP802", "LP807", "LP808")
    remedies: ClassVar = ("extend-training",)
    why: ClassVar[str] = "nothing may be wrong but the number of epochs"

    minimum_rows: int = 40
    least_fall: float = 0.1
    least_fall_near_start: float = 0.02
    near_start: float = 0.9
    least_left: float = 0.5
    most_left: float = 0.7
    share_in_validation: float = 0.5
    least_share_of_peak: float = 0.05

    def check(self, history: History) -> Finding | None:
        """Return the fault where training and validation still fell at the planned end."""
        gone = progress(history[LOSS])
        if not history.finished or gone.rows < self.minimum_rows or gone.now <= 0:
            return None
        if len(history.profile.optimizers) > 1 or _ended_early(history):
            return None
        ceiling = self._ceiling(history, gone)
        near_start = gone.now > self.near_start * ceiling
        least_fall = self.least_fall_near_start if near_start else self.least_fall
        validated = _validation_falls(history, self.share_in_validation * least_fall)
        if validated is False or share_of_peak(history) < self.least_share_of_peak:
            return None
        if self._slows_down(history, self.share_in_validation * least_fall):
            return None
        losses = history[LOSS].finite
        pace = self._pace(losses.tail(len(losses) // 2), least_fall)
        if pace == 0.0 and validated:
            pace = self._pace(losses, least_fall)  # the recent half alone is too short to tell
        if pace == 0.0 or gone.now < self.least_left * ceiling:
            return None
        finding = self._report(history, gone.now, pace, validated)
        much_left = gone.now > self.most_left * ceiling
        return finding if much_left else replace(finding, severity=Severity.INFO)

    def _slows_down(self, history: History, least_fall: float) -> bool:
        """Whether the validation loss is about to come to rest where it may well belong.

        Numbers and yes or no are often mostly noise; many classes hardly ever.
        """
        guess = guessing(history)
        return (guess is None or guess.classes <= 2) and _arrived(history, least_fall)

    def _report(self, history: History, now: float, pace: float, validated: bool | None) -> Finding:
        steps = int(np.log(2) / pace)
        per_epoch = history.profile.steps_per_epoch
        epochs = f" ({steps / per_epoch:.0f} epochs)" if per_epoch else ""
        return self.finding(
            history,
            0.8 if validated else 0.6,
            f"training ended at step {history.step}, the loss at {now:.4g} and falling "
            f"{100 * pace:.2g} % a step" + (", validation too" if validated else ""),
            evidence=(
                Evidence("fall in a step", pace, None, unit="share of the loss"),
                Evidence("steps that would halve the loss at this pace", float(steps)),
            ),
            fix=f"train longer: at this pace {steps} more steps{epochs} halve the loss; "
            "trainer.fit(model, ckpt_path='last') with a larger max_epochs",
        )

    def _pace(self, losses: Series, least_fall: float) -> float:
        """Return the share by which the loss falls a step; 0.0 for none that counts."""
        recent = progress(losses)
        if not recent.slope < 0 or recent.scale <= 0 or recent.now <= 0:
            return 0.0
        share = -recent.slope * recent.scale / recent.now
        return share if share * recent.rows > least_fall and recent.least > 0 else 0.0

    def _ceiling(self, history: History, gone: Progress) -> float:
        return chance_loss(history) or gone.start


def _ended_early(history: History) -> bool:
    """Whether somebody stopped the run before its planned end."""
    planned = history.profile.planned_steps
    return planned is not None and history.step < 0.95 * planned


def _validation_falls(history: History, least_fall: float) -> bool | None:
    """Return whether the validation loss fell by that share of it in the last half of the run.

    None where there is none. Its first and its last third are compared, beyond their noise.
    """
    values = generalization(history).validation
    if len(values) < 3:
        return None
    recent = values[len(values) // 2 - 1 :]
    third = max(1, len(recent) // 3)
    now = float(np.median(recent[-third:]))
    fall = float(np.median(recent[:third])) - now
    noise = noise_about_a_bend(recent) if len(recent) > 3 else 0.0
    least = max(least_fall * abs(now), 2.0 * noise / third**0.5)
    return fall > least and float(values[-1]) <= 1.01 * float(recent.min())


def _arrived(history: History, least_fall: float) -> bool:
    """Whether the validation loss slows down so much that it has less than that share left to fall.

    Where each stretch of the recent half brings a part of what the one before it brought, all that
    follow bring no more than the sum of a geometric series.
    """
    values = generalization(history).validation
    recent = values[(len(values) - 1) // 2 :]
    if len(recent) < 4:
        return False
    middle = len(recent) // 2
    stretch = len(recent) - 1 - middle
    before, latest = recent[middle - stretch] - recent[middle], recent[middle] - recent[-1]
    if not 0.0 < latest < before:
        return False
    part = float(latest / before)
    return float(latest) * part / (1.0 - part) < least_fall * abs(float(recent[-1]))
