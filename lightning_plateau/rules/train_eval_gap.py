"""LP602: evaluation does not see the network that is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import breakdown, broken_rows
from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.evaluation_gap import EvaluationGap, evaluation_gap, repeats_at_once
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.generalization import generalization
from lightning_plateau.core.history import History
from lightning_plateau.core.normalization import batch_norm_calls, latest_moments
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    EXPERIMENT_TRAIN_AGAINST_EVAL,
    FINGERPRINTED,
    LOSS,
    NORMALIZATION_BATCH_MEAN,
    NORMALIZATION_BATCH_VARIANCE,
    NORMALIZATION_RUNNING_MEAN,
    NORMALIZATION_RUNNING_VARIANCE,
    REPEATED,
    VALIDATION_LOSS,
)
from lightning_plateau.core.tape import CLASS_LOSSES, RECURRENCES, Tape

_ALIKE = (
    "prepare the validation data as the training data: the same normalization, order of classes "
    "and columns"
)


@dataclass(frozen=True)
class TrainEvalGap(Rule):
    """Most of what training learns does not show in validation, from the first one on.

    What it detects:
        In the first epoch, where no sample comes twice, the training loss fell well below that of
        guessing; yet no validation, the first included, shows as much as 40 % of it. That is no
        overfitting. With batch norm in the network, evaluation sees another network: its running
        statistics. It is surer where these lie far from the statistics of the batches, and where
        the experiment train-against-eval has found the same batches worse in evaluation mode.
        Without batch norm the validation data must differ: that is only said where every validation
        of a classifier is worse than guessing, or three times as high from the first one on, while
        training began at it. Or the last validation loss is NaN or infinite, where all that
        training shows is finite.

    Why it matters:
        What is validated, saved and used is not what was trained.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> norm = Operation(0, "batch_norm", "bn", (Operand("parameter", name="w"),), (8, 10))
        >>> logits, y = Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,))
        >>> loss = Operation(1, "cross_entropy", "", (logits, y))
        >>> run = history(
        ...     {VALIDATION_LOSS: [2.6, 2.5, 2.7]},
        ...     loss=[2.3] * 30 + [0.5] * 90,
        ...     every=40,
        ...     tapes=[Tape(0, (norm, loss), root=1)],
        ...     epoch_ends=[40, 80],
        ... )
        >>> TrainEvalGap().check(run).message
        'the training loss fell to 0.5 in the first epoch, yet no validation loss is below 2.5
        (guessing gives 2.303)'

    Remedies:
        reset-batch-norm starts the running statistics anew. Advice: an ordinary momentum (0.1),
        larger batches, GroupNorm; the same preparation of both data sets.

    Known limitations:
        Needs the loss of guessing: one averaged loss. Data that are not shuffled, and sequences
        that are trained with the true past, show the same without batch norm: there it is silent.

    References:
        Ioffe and Szegedy, 2015, Batch Normalization (ICML). Singh and Shrivastava, 2019, EvalNorm:
        Estimating Batch Normalization Statistics for Evaluation (ICCV).
    """

    code: ClassVar[str] = "LP602"
    name: ClassVar[str] = "train-eval-gap"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (
        LOSS,
        VALIDATION_LOSS,
        FINGERPRINTED,
        REPEATED,
        NORMALIZATION_RUNNING_MEAN,
        NORMALIZATION_RUNNING_VARIANCE,
        NORMALIZATION_BATCH_MEAN,
        NORMALIZATION_BATCH_VARIANCE,
    )
    explains: ClassVar = ("LP106", "LP801")
    remedies: ClassVar = ("reset-batch-norm",)
    why: ClassVar[str] = "what is validated and used is not what was trained"

    least_share: float = 0.6
    share_of_other_data: float = 1.0
    least_disparity: float = 2.0
    least_validations: int = 2
    as_guessing: float = 1.5
    far_above: float = 3.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where validation never shows what the first epoch learned."""
        broken = self._not_finite(history)
        if broken is not None:
            return broken
        gap, tape = evaluation_gap(history), history.last_tape
        if tape is None:
            return None
        if gap is None:
            return self._worlds_apart(history, tape)
        return self._judged(history, gap, tape) if gap.share >= self.least_share else None

    def _not_finite(self, history: History) -> Finding | None:
        """Return the fault where validation ends in NaN or infinity, and training is finite."""
        validations, broke = history[VALIDATION_LOSS], breakdown(history)
        lost = broken_rows(validations)
        sound = broke.origin is None and len(history[LOSS].finite) > 0
        if not sound or not len(lost) or not lost[-1]:
            return None
        value, step = float(validations.values[-1]), int(validations.steps[lost.argmax()])
        return self.finding(
            history,
            0.95,
            f"the validation loss is {value} since step {step}, and every training loss is finite",
            evidence=(Evidence(VALIDATION_LOSS.tag, value, None, f"step {step}"),),
            fix="look for NaN in the validation data, for samples of which a mask leaves nothing, "
            "for a mean over nothing, and for what the network does in evaluation mode alone",
            step=step,
            remedies=(),
        )

    def _judged(self, history: History, gap: EvaluationGap, tape: Tape) -> Finding | None:
        """Return what the gap is to be put down to, if that can be told."""
        layers = [call.name for call in batch_norm_calls(tape) if call.training]
        apart = {
            layer: seen.disparity
            for layer, seen in latest_moments(history).items()
            if layer in layers and seen.disparity >= self.least_disparity
        }
        confirmed = _confirmed(history, gap)
        shuffled = history.profile.shuffled is not False
        if confirmed:
            return self._report(history, gap, 0.95, apart)
        if apart and confirmed is None:
            return self._report(history, gap, 0.85, apart)
        if layers and confirmed is None and shuffled:
            return self._report(history, gap, 0.65, apart)
        if shuffled and gap.share >= self.share_of_other_data and _plain_classifier(tape):
            return self._report_data(history, gap)
        return None

    def _worlds_apart(self, history: History, tape: Tape) -> Finding | None:
        """Return the fault where validation began far above guessing, where training did not."""
        beside, chance = generalization(history), chance_loss(history)
        if len(beside) < self.least_validations or chance is None or chance <= 0:
            return None
        first, training = float(beside.validation[0]), float(beside.training[0])
        lowest = float(beside.validation.min())
        if training > self.as_guessing * chance or lowest < self.far_above * chance:
            return None
        if batch_norm_calls(tape) or repeats_at_once(history):
            return None
        return self.finding(
            history,
            0.75,
            f"the first validation loss is {first:.4g} where training has {training:.4g} and "
            f"guessing gives {chance:.4g}: the validation data differ",
            evidence=(Evidence(VALIDATION_LOSS.tag, lowest, self.far_above * chance, "best"),),
            fix=_ALIKE,
            step=0,
        )

    def _report(
        self, history: History, gap: EvaluationGap, confidence: float, apart: dict[str, float]
    ) -> Finding:
        worst = max(apart, key=lambda layer: apart[layer], default="")
        where = (
            f"; the running statistics of {worst} are {apart[worst]:.3g}-fold off its batches"
            if worst
            else ""
        )
        return self.finding(
            history,
            confidence,
            f"{_said(gap)}{where}",
            evidence=(
                *self._evidence(gap),
                *(Evidence("disparity", v, 2.0, k) for k, v in apart.items()),
            ),
            fix="set momentum=0.1 and track_running_stats=True in batch norm, use batches of 16 or "
            "more, or nn.GroupNorm; make sure that both data sets are prepared alike",
            where=worst,
        )

    def _report_data(self, history: History, gap: EvaluationGap) -> Finding:
        return self.finding(
            history,
            0.6,
            f"{_said(gap)}, and no batch norm can be the reason: the validation data differ",
            evidence=self._evidence(gap),
            fix=_ALIKE,
        )

    def _evidence(self, gap: EvaluationGap) -> tuple[Evidence, ...]:
        return (
            Evidence(
                "share of what was learned that validation lacks", gap.share, self.least_share
            ),
            Evidence(LOSS.tag, gap.training, None, "end of the first epoch"),
            Evidence(VALIDATION_LOSS.tag, gap.validation, None, "best"),
        )


def _said(gap: EvaluationGap) -> str:
    return (
        f"the training loss fell to {gap.training:.4g} in the first epoch, yet no validation loss "
        f"is below {gap.validation:.4g} (guessing gives {gap.guessing:.4g})"
    )


def _confirmed(history: History, gap: EvaluationGap) -> bool | None:
    """Return whether the same batches are worse in evaluation mode; None where nobody tried."""
    tried = history[EXPERIMENT_TRAIN_AGAINST_EVAL]
    train, evaluation = tried.column("train").finite.values, tried.column("eval").finite.values
    if not len(train) or not len(evaluation):
        return None
    apart = float(np.median(evaluation)) - float(np.median(train))
    return apart >= 0.5 * (gap.validation - gap.training)


def _plain_classifier(tape: Tape) -> bool:
    names = {operation.name for operation in tape}
    return not names & RECURRENCES and bool(names & CLASS_LOSSES)
