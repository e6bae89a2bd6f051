"""LP104: a few classes have most of the samples, and the model predicts frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import Guess, stopped_at_frequencies
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.labels import Labels, labels
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LABEL_COUNTS, LOSS


@dataclass(frozen=True)
class ClassImbalance(Rule):
    """A few classes have most of the samples, and the model predicts no more than that.

    What it detects:
        Labels that are unevenly spread (one class has ten times the samples of another, or the
        classes in effective use are fewer than half) in a training whose loss is that of guessing
        by frequency: what it has learned is how common the classes are. Imbalance that the
        training copes with is not reported.

    Why it matters:
        The frequent classes make nearly all of the gradient. Always to answer with them looks
        accurate, and is where such trainings like to stay.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (64, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (64, 2))
        >>> sides = (Operand("operation", 0, shape=(64, 2)), Operand("batch", 1, "1", (64,)))
        >>> tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
        >>> counts = {LABEL_COUNTS: {"0": [76.0] * 60, "1": [4.0] * 60}}
        >>> finding = ClassImbalance().check(history(counts, loss=[0.2] * 300, tapes=[tape]))
        >>> finding.message
        'class 0 has 95 % of the samples, class 1 5 %; the loss is 0.2, that of guessing so 0.208'

    Remedies:
        Advice only: weigh the loss by 1/frequency (its ``weight`` or ``pos_weight``), or sample the
        classes alike (``WeightedRandomSampler``); and judge by balanced accuracy.

    Known limitations:
        A training that stays at the frequencies for another reason looks the same, so the finding
        is never certain, and no more than possible where no class has half of the samples. More
        than 1,000 classes are not counted.

    References:
        Buda et al., 2018, A systematic study of the class imbalance problem in convolutional neural
        networks. Ben Braiek and Khomh, 2023, Testing Feedforward Neural Networks Training Programs
        (TOSEM).
    """

    code: ClassVar[str] = "LP104"
    name: ClassVar[str] = "class-imbalance"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (LABEL_COUNTS, LOSS)
    explains: ClassVar = ("LP306", "LP401", "LP802", "LP807", "LP808")
    why: ClassVar[str] = "the frequent classes make nearly all of the gradient"

    largest_ratio: float = 10.0
    least_evenness: float = 0.5
    fewest_samples: int = 200
    majority: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault where the loss is that of guessing by uneven frequencies."""
        counted, stopped = labels(history), stopped_at_frequencies(history)
        if counted is None or stopped is None or not self._uneven(counted):
            return None
        return self._report(history, counted, *stopped)

    def _uneven(self, counted: Labels) -> bool:
        if len(counted.names) < 2 or counted.totals.sum() < self.fewest_samples:
            return False
        return counted.ratio > self.largest_ratio or counted.evenness < self.least_evenness

    def _most(self, counted: Labels) -> float:
        """Return how sure it may be: less where no class has most of the samples, as in a text."""
        return 0.7 if counted.shares.max() > self.majority else 0.45

    def _report(self, history: History, counted: Labels, guess: Guess, now: float) -> Finding:
        most, least = int(np.argmax(counted.totals)), int(np.argmin(counted.totals))
        return self.finding(
            history,
            min(self._most(counted), 0.35 + 0.15 * math.log10(counted.ratio)),
            f"class {counted.names[most]} has {100 * counted.shares[most]:.3g} % of the samples, "
            f"class {counted.names[least]} {100 * counted.shares[least]:.2g} %; "
            f"the loss is {now:.3g}, that of guessing so {guess.loss:.3g}",
            evidence=(
                Evidence("most frequent class over the least", counted.ratio, self.largest_ratio),
                Evidence(
                    "classes in effective use, as a share", counted.evenness, self.least_evenness
                ),
                Evidence("level of the loss now", now, guess.loss),
            ),
            fix="weigh the classes in the loss (weight=1/frequency, or pos_weight="
            f"{counted.ratio:.3g} for two), or sample them alike (WeightedRandomSampler)",
        )
