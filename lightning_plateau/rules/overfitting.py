"""LP801: training improves while validation gets worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.generalization import Generalization, generalization
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS
from lightning_plateau.core.trend import noise_about_a_bend


@dataclass(frozen=True)
class Overfitting(Rule):
    """The training loss falls while the validation loss rises.

    What it detects:
        The last three validations all lie above the best one before them, by a tenth and by more
        than their noise, while the training loss went on falling and lies below. A rise that is
        small beside the loss that validation started from (or beside that of guessing) is left
        alone: a classifier that is right gets surer of its few mistakes. So is a fluctuation.

    Why it matters:
        What the model learns from here on is the training set, not the task.

    Example:
        >>> from lightning_plateau.testing import history
        >>> import numpy as np
        >>> losses = 2.0 * np.exp(-np.arange(100) / 20)
        >>> validation = {VALIDATION_LOSS: [2.0, 1.5, 1.2, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]}
        >>> finding = Overfitting().check(history(validation, loss=losses, every=11))
        >>> finding.message
        'the validation loss rose from 1.1 to 1.6 in 6 validations as training fell to 0.01819'

    Remedies:
        stop-training and keep the best weights; weight-decay, dropout or augment-batch; advice:
        more data, a smaller model.

    Known limitations:
        A distribution shift between the two sets looks the same. The validation loss may rise while
        the accuracy does not fall.

    References:
        Prechelt, 1998, Early Stopping – But When? Zhang et al., 2017, Understanding Deep Learning
        Requires Rethinking Generalization (ICLR).
    """

    code: ClassVar[str] = "LP801"
    name: ClassVar[str] = "overfitting"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS, VALIDATION_LOSS)
    explains: ClassVar = ("LP107",)
    remedies: ClassVar = (
        "weight-decay",
        "dropout",
        "augment-batch",
        "l1-penalty",
        "average-weights",
        "stop-training",
    )
    why: ClassVar[str] = "what is learned from here on is the training set, not the task"

    least_validations: int = 3
    least_rise: float = 0.1
    least_share_of_start: float = 0.1
    least_errors: float = 3.0
    never_better: float = 2.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where validation has got worse while training got better."""
        beside = generalization(history)
        if len(beside) <= self.least_validations:
            return None
        best = int(np.argmin(beside.validation[: -self.least_validations]))
        chance = chance_loss(history)
        if chance is not None and beside.validation[best] > self.never_better * chance > 0:
            return None  # what was never better than guessing has not got worse by training
        since = len(beside) - 1 - best
        rise = self._rise(history, beside, best)
        fell = beside.training[best] - beside.training[-1]
        scale = max(abs(beside.training[best]), abs(beside.training[-1]))
        if rise <= 0 or fell < self.least_rise * scale:
            return None
        now = float(np.median(beside.validation[-self.least_validations :]))
        if now - beside.training[-1] < self.least_rise * abs(now):
            return None
        return self.finding(
            history,
            0.9 if since > self.least_validations else 0.75,
            f"the validation loss rose from {beside.validation[best]:.4g} to {now:.4g} in {since} "
            f"validations as training fell to {beside.training[-1]:.4g}",
            evidence=(
                Evidence(VALIDATION_LOSS.tag, now, float(beside.validation[best]), "now, and best"),
                Evidence(LOSS.tag, float(beside.training[-1]), None, "now"),
            ),
            fix="keep the weights of the best validation (ModelCheckpoint(monitor='val_loss')) "
            "and regularize: weight_decay, dropout, augmentation, more data",
        )

    def _rise(self, history: History, beside: Generalization, best: int) -> float:
        """Return how far the last validations lie above the best one; 0.0 for not far enough."""
        recent = beside.validation[-self.least_validations :]
        low = float(beside.validation[best])
        start = max(abs(float(beside.validation[0])), chance_loss(history) or 0.0)
        limit = max(
            self.least_rise * abs(low),
            self.least_share_of_start * start,
            self.least_errors * noise_about_a_bend(beside.validation),
        )
        # The best of many noisy values lies below their level: all recent ones must be above it.
        return float(np.median(recent)) - low if recent.min() > low + limit else 0.0
