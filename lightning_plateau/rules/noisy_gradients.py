"""LP306: the gradients of small batches are mostly noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import BATCH_SIZE, GRADIENT_AGREEMENT


@dataclass(frozen=True)
class NoisyGradients(Rule):
    """The gradients of small batches are mostly noise.

    What it detects:
        In a training that fails on batches of 32 samples or fewer: the gradients of one step and
        the next, which differ by their batches, hardly agree: their cosine is below a tenth, the
        error of its mean considered. The cosine is the share of the gradient in what a batch gives;
        the rest is noise.

    Why it matters:
        Steps go to and fro instead of down, and cancel each other at the length they have.

    Example:
        >>> from lightning_plateau.testing import history
        >>> signals = {GRADIENT_AGREEMENT: [0.03, -0.02, 0.01] * 5, BATCH_SIZE: [2.0] * 15}
        >>> NoisyGradients().check(history(signals, loss=[2.3] * 15)).message
        'the gradients of successive batches of 2 samples hardly agree: their cosine is 0.01'

    Remedies:
        Advice only: larger batches, ``accumulate_grad_batches``, or a lower learning rate, which
        averages over more steps.

    Known limitations:
        A training that has nothing left to learn, or nothing to learn at all (LP106), has noise for
        gradients too; so it is never more than a possibility.

    References:
        McCandlish et al., 2018, An Empirical Model of Large-Batch Training. Schneider et al., 2021,
        Cockpit: A Practical Debugging Tool for the Training of Deep Neural Networks (NeurIPS).
        Bollapragada et al., 2018, Adaptive Sampling Strategies for Stochastic Optimization.
    """

    code: ClassVar[str] = "LP306"
    name: ClassVar[str] = "noisy-gradients"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (GRADIENT_AGREEMENT, BATCH_SIZE)
    explains: ClassVar = ("LP403", "LP405")
    why: ClassVar[str] = "steps go to and fro instead of down, and cancel each other"

    largest_batch: int = 32
    most_agreement: float = 0.1
    minimum_rows: int = 10

    def check(self, history: History) -> Finding | None:
        """Return the fault where successive gradients of small batches hardly agree."""
        values = history[GRADIENT_AGREEMENT].finite.values
        sizes = history[BATCH_SIZE].finite.values
        if len(values) < self.minimum_rows or not len(sizes):
            return None
        batch = float(np.median(sizes)) * max(1, history.profile.accumulate_grad_batches)
        if not 0 < batch <= self.largest_batch or history.profile.steps_per_epoch == 1:
            return None
        if _at_most(values) > self.most_agreement:
            return None
        typical = float(np.mean(np.clip(values, -1, 1)))
        return self.finding(
            history,
            0.45,
            f"the gradients of successive batches of {batch:.0f} samples hardly agree: their "
            f"cosine is {typical:.2f}",
            evidence=(
                Evidence(GRADIENT_AGREEMENT.tag, typical, self.most_agreement),
                Evidence("samples of a step", batch, float(self.largest_batch)),
            ),
            fix=f"Trainer(accumulate_grad_batches={_enough(batch)}), a larger batch, or a learning "
            "rate as many times smaller",
        )


def _at_most(values: Floats) -> float:
    """Return the mean of cosines and two standard errors."""
    cosines = np.clip(values, -1.0, 1.0)
    error = float(np.std(cosines)) / math.sqrt(max(1, len(cosines) - 1))
    return float(np.mean(cosines)) + 2 * error


def _enough(batch: float) -> int:
    """Return how many batches make one of 64 samples."""
    return max(2, round(64 / batch))
