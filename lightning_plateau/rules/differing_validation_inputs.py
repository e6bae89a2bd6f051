"""LP111: validation gives the network other inputs than training does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.evaluation_gap import evaluation_gap
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.generalization import generalization
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    LOSS,
    VALIDATION_LIKENESS,
    VALIDATION_LOSS,
    VALIDATION_SHIFT,
    VALIDATION_SPREAD,
)


@dataclass(frozen=True, slots=True)
class _Difference:
    """How what a layer is given in validation differs from what it is given in training."""

    where: str
    shift: float
    spread: float
    likeness: float

    @property
    def factor(self) -> float:
        """By what factor the wider spread exceeds the narrower; infinite where one is nothing."""
        return max(self.spread, 1 / self.spread) if self.spread > 0 else math.inf


@dataclass(frozen=True)
class DifferingValidationInputs(Rule):
    """Validation gives the network other inputs than training does.

    What it detects:
        What meets the first weights, measured where it enters the layer: in validation the means of
        the features lie a standard deviation or more from those of training, on average over the
        features, or their spread is another by a factor of three; and every validation lacks half
        of what training learned in its first epoch, or the later ones have a quarter more loss than
        training has. Noise, crops and dropout in training alone move no means that far, and
        validation does no worse for them.

    Why it matters:
        The network is judged by inputs that it was never made for. The validation loss, the
        checkpoint that is kept by it and the early stop say nothing of what was learned.

    Example:
        >>> from lightning_plateau.testing import history
        >>> compared = {VALIDATION_SHIFT: 2.4, VALIDATION_SPREAD: 3.2, VALIDATION_LIKENESS: 1.0}
        >>> run = history(
        ...     {
        ...         VALIDATION_LOSS: [2.9, 3.1, 3.4],
        ...         **{one: {"conv1": [value] * 3} for one, value in compared.items()},
        ...     },
        ...     loss=[0.9] * 100,
        ...     every=40,
        ... )
        >>> DifferingValidationInputs().check(run).message
        'what conv1 is given in validation lies 2.4 standard deviations from what it is given in
        training, and spreads 3.2 times as far: another scale'

    Remedies:
        Advice only: the same normalization, the same order of columns, channels and pixels in both,
        whether in a transform, in the dataset or in ``validation_step``.

    Known limitations:
        Columns that change places are not seen where all are standardized, nor are channels of much
        the same brightness. Data that enters by an embedding has no mean. Where validation is of
        another kind on purpose (a later time, another hospital), it is told as well: it is true.

    References:
        Breck et al., 2019, Data Validation for Machine Learning (MLSys; training-serving skew).
        Karpathy, 2019, A Recipe for Training Neural Networks.
    """

    code: ClassVar[str] = "LP111"
    name: ClassVar[str] = "differing-validation-inputs"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (
        LOSS,
        VALIDATION_LOSS,
        VALIDATION_SHIFT,
        VALIDATION_SPREAD,
        VALIDATION_LIKENESS,
    )
    explains: ClassVar = ("LP106", "LP107", "LP602", "LP801")
    why: ClassVar[str] = "the network is judged by inputs that it was never made for"

    least_shift: float = 1.0
    least_factor: float = 3.0
    far: float = 2.0
    unlike: float = 0.5
    alike: float = 0.9
    least_lacking: float = 0.5
    least_worse: float = 1.25
    least_validations: int = 2

    def check(self, history: History) -> Finding | None:
        """Return the fault at the layer whose validation inputs differ most."""
        found = [one for one in _differences(history) if self._differs(one)]
        if not found or not self._suffers(history):
            return None
        worst = max(found, key=lambda one: (one.shift, one.where))
        return self.finding(
            history,
            0.9 if max(worst.shift, worst.factor) >= self.far else 0.7,
            f"what {worst.where} is given in validation lies {worst.shift:.3g} standard deviations "
            f"from what it is given in training, and spreads {worst.spread:.3g} times as far"
            + self._kind(worst),
            evidence=(
                Evidence(VALIDATION_SHIFT.tag, worst.shift, self.least_shift, worst.where),
                Evidence(VALIDATION_SPREAD.tag, worst.spread, None, worst.where),
                Evidence(VALIDATION_LIKENESS.tag, worst.likeness, None, worst.where),
                Evidence(VALIDATION_LOSS.tag, float(history[VALIDATION_LOSS].last), None, "now"),
            ),
            fix="prepare both sets alike: the same normalization (the training set's mean and "
            "standard deviation), the same order of columns, channels and pixels, in the "
            "transforms, the dataset and validation_step",
            where=worst.where,
        )

    def _differs(self, seen: _Difference) -> bool:
        return seen.shift >= self.least_shift or seen.factor >= self.least_factor

    def _kind(self, seen: _Difference) -> str:
        """Return what the difference looks like, in words."""
        if seen.factor >= self.far or (seen.likeness >= self.alike and seen.shift >= self.far):
            return ": another scale"
        if abs(seen.likeness) < self.unlike:
            return ": other features, or another order of them"
        return ""

    def _suffers(self, history: History) -> bool:
        """Whether validation shows less of what training learned."""
        gap, beside = evaluation_gap(history), generalization(history)
        if gap is not None and gap.share >= self.least_lacking:
            return True
        if len(beside) < self.least_validations:
            return False
        level = np.minimum.accumulate(beside.training)
        latest = slice(-max(1, len(beside) // 2), None)  # at first training has hardly begun
        worse = beside.validation >= self.least_worse * level
        return bool((worse & (level > 0))[latest].all())


def _differences(history: History) -> list[_Difference]:
    """Return the differences of the latest comparison that are known, by layer."""
    columns = [history[s] for s in (VALIDATION_SHIFT, VALIDATION_SPREAD, VALIDATION_LIKENESS)]
    names = set(columns[0].labels).intersection(*(one.labels for one in columns))
    rows = [
        _Difference(name, *(float(one.column(name).last) for one in columns))
        for name in sorted(names)
    ]
    return [one for one in rows if math.isfinite(one.shift) and one.spread > 0]
