"""LP709: classes are learned with a regression loss."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.rule import Remark, Rule
from lightning_plateau.core.tape import REGRESSION_LOSSES, Operand, Tape

_JUDGED = REGRESSION_LOSSES - {"poisson_nll_loss", "gaussian_nll_loss"}


@dataclass(frozen=True)
class RegressionLossForClasses(Rule):
    """Classes are learned with a regression loss.

    What it detects:
        A squared or absolute error whose targets are class labels: whole numbers that the batch
        holds as integers, one a sample, from 0 to at most a few dozen; or one-hot rows beside as
        many outputs. A remark while the loss comes down, and as possible only, unless the user says
        that the task is a classification: ages and counts are whole numbers as well.

    Why it matters:
        Label 9 is no closer to 8 than to 0. The best answer between several classes is their mean,
        a third class; and against one-hot rows the gradient of a confident wrong answer vanishes.

    Example:
        >>> from lightning_plateau.core.tape import Operation
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (8,))
        >>> label = Operand("batch", 1, "1", (8,), "int64")
        >>> cast = Operation(1, "float", "", (label,), (8,))
        >>> seen = {"minimum": 0.0, "maximum": 9.0, "mean": 4.4, "std": 2.9, "integer": 1.0}
        >>> sides = (Operand("operation", 0), Operand("operation", 1, "", (8,), statistics=seen))
        >>> tape = Tape(0, (fc, cast, Operation(2, "mse_loss", "", sides)), root=2)
        >>> RegressionLossForClasses().check(history(tapes=[tape])).message
        'mse_loss compares the output with class labels, whole numbers from 0 to 9'

    Remedies:
        Advice only: one output for each class and ``cross_entropy``.

    Known limitations:
        An ordinal target of few values (a rating) looks the same. Labels that the data set already
        gives as floats are told only where they are one-hot.

    References:
        Humbatova et al., 2020, Taxonomy of Real Faults in Deep Learning Systems (ICSE): wrong
        selection of the loss function. Wardat et al., 2022, DeepDiagnosis (ICSE).
    """

    code: ClassVar[str] = "LP709"
    name: ClassVar[str] = "regression-loss-for-classes"
    severity: ClassVar[Severity] = Severity.WARNING
    remark: ClassVar[Remark] = "while-well"
    explains: ClassVar = ("LP306", "LP401", "LP405", "LP802", "LP803", "LP807", "LP808")
    why: ClassVar[str] = "numbers of classes have no order, and their mean is another class"

    most_classes: int = 100
    confidence: float = 0.5
    confidence_one_hot: float = 0.35
    confidence_where_told: float = 0.9

    def check(self, history: History) -> Finding | None:
        """Return the fault where an error is measured against class labels."""
        told = history.profile.task == "classification" or history.profile.classes is not None
        for tape in history.tapes:
            for comparison in comparisons(tape):
                if comparison.by_hand or comparison.operation.name in _JUDGED:
                    finding = self._judge(history, tape, comparison, told)
                    if finding is not None:
                        return finding
        return None

    def _judge(
        self, history: History, tape: Tape, comparison: Comparison, told: bool
    ) -> Finding | None:
        target, name = comparison.target, comparison.operation.name
        highest = target.statistics.get("maximum", 0.0)
        if self._is_label(tape, target):
            said = f"class labels, whole numbers from 0 to {highest:.0f}"
            confidence, measured = self.confidence, highest
        elif _is_one_hot(target) and comparison.prediction.shape == target.shape:
            said = f"one-hot rows of {target.shape[1]} classes"
            confidence, measured = self.confidence_one_hot, float(target.shape[1])
        else:
            return None
        return self.finding(
            history,
            self.confidence_where_told if told else confidence,
            f"{'a difference' if comparison.by_hand else name} compares the output with {said}",
            evidence=(Evidence("classes that the targets count", measured, where=name),),
            fix="if these are classes: one output for each class, and cross_entropy(logits, label) "
            "with the labels as integers",
            where=comparison.operation.site,
            step=tape.step,
        )

    def _is_label(self, tape: Tape, target: Operand) -> bool:
        leaf, seen = tape.from_batch(target), target.statistics
        return (
            leaf is not None
            and leaf.dtype in ("int64", "int32", "uint8", "bool")
            and len(leaf.shape) in (1, 2)
            and prod(leaf.shape) == leaf.shape[0] == prod(target.shape) > 1
            and seen.get("integer", 0.0) == 1.0
            and seen.get("minimum", -1.0) >= 0.0
            and 0.0 < seen.get("maximum", 0.0) < self.most_classes
        )


def _is_one_hot(target: Operand) -> bool:
    seen = target.statistics
    return (
        len(target.shape) == 2
        and target.shape[1] > 1
        and (seen.get("integer"), seen.get("minimum"), seen.get("maximum")) == (1.0, 0.0, 1.0)
        and seen.get("row_sum_error", 1.0) == 0.0
    )
