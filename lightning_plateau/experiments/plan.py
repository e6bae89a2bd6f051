"""Which experiment comes next: what was recorded and found in, one experiment or none out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache

from lightning_plateau import rules
from lightning_plateau.core.along_update import along_update
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.fitting import fitting
from lightning_plateau.core.history import History
from lightning_plateau.core.tape import RECURRENCES
from lightning_plateau.experiments import catalogue
from lightning_plateau.experiments.batch_mixing import BatchMixing
from lightning_plateau.experiments.experiment import Experiment
from lightning_plateau.experiments.gradient_flow import GradientFlow
from lightning_plateau.experiments.gradient_through_time import GradientThroughTime
from lightning_plateau.experiments.learning_curve import LearningCurve
from lightning_plateau.experiments.learning_rate_range import LearningRateRange
from lightning_plateau.experiments.overfit_one_batch import OverfitOneBatch
from lightning_plateau.experiments.replay_batch import ReplayBatch
from lightning_plateau.experiments.shuffled_labels import ShuffledLabels
from lightning_plateau.experiments.step_size import StepSize
from lightning_plateau.experiments.train_against_eval import TrainAgainstEval
from lightning_plateau.experiments.zero_inputs import ZeroInputs

NON_FINITE = frozenset({"LP201", "LP202", "LP203", "LP204"})
SEPARATING: dict[str, tuple[type[Experiment], ...]] = {
    "LP401": (
        ZeroInputs,
        BatchMixing,
        GradientThroughTime,
        StepSize,
        OverfitOneBatch,
        ShuffledLabels,
    ),
    "LP402": (StepSize, OverfitOneBatch),
    "LP403": (StepSize,),
    "LP405": (StepSize,),
    "LP807": (
        ZeroInputs,
        BatchMixing,
        GradientThroughTime,
        StepSize,
        OverfitOneBatch,
        ShuffledLabels,
    ),
    "LP808": (StepSize, ZeroInputs, OverfitOneBatch),
}
"""By symptom, the experiments that separate the causes which it may have, the cheapest first."""
PROBABLE = 0.9
"""Confidence from which on a cause needs no others to be ruled out."""
SHORT = 10
"""Steps up to which an experiment costs next to nothing: it need not wait for a suspicion."""
BEFORE_TRAINING = (ZeroInputs, BatchMixing, StepSize, OverfitOneBatch, ShuffledLabels)
THOROUGH = (GradientFlow, GradientThroughTime, LearningRateRange, LearningCurve)
SETTLED = 100
"""Steps after which running statistics say something."""
LEARNED = 0.1
"""Share of the loss of one batch that must go for a test of the labels to make sense."""


def next_when_stuck(
    history: History, findings: Sequence[Finding], made: Collection[str]
) -> Experiment | None:
    """Return the cheapest experiment that tells the causes of a stuck training apart.

    What takes a few steps comes before what takes many; among the one and the other, what speaks
    for or against a suspicion comes first. None while nothing is suspected and the training is not
    stuck, or where its cause is certain; nothing beside that where it is probable.

    Args:
        history: What was recorded.
        findings: What is wrong, the most probable cause first.
        made: Names of the experiments that were made already.
    """
    codes = {finding.code for finding in findings}
    seen = _symptoms()
    causes = [f for f in findings if f.code not in seen and f.severity is not Severity.INFO]
    if any(f.certain and f.severity is Severity.ERROR for f in causes):
        return None
    if codes & NON_FINITE:
        return _first([ReplayBatch], history, made)
    symptoms = [code for code in SEPARATING if code in codes]
    suspected = [e for e in catalogue() if codes & set(e.tells)]
    settled = any(f.confidence >= PROBABLE for f in causes)
    general = [e for code in symptoms for e in SEPARATING[code] if not settled]
    along = along_update(history)
    off = bool(symptoms) and along is not None and (along.overshoots or along.short)
    ordered = sorted([*suspected, *general], key=lambda kind: kind.cost > SHORT)
    return _first([*ordered, *([LearningRateRange] if off else [])], history, made)


@cache
def _symptoms() -> frozenset[str]:
    """Return the codes that say what is seen, not why, however certain they are."""
    return NON_FINITE | {rule.code for rule in rules.catalogue() if rule.symptom}


def next_of_check(
    history: History, made: Collection[str], *, thorough: bool = False
) -> Experiment | None:
    """Return the next experiment of a check, whatever was found; None while none is due.

    Training mode is compared with evaluation mode when running statistics have had time to settle.

    Args:
        history: What was recorded.
        made: Names of the experiments that were made already.
        thorough: Whether to make those too that say how to go on when nothing is wrong.

    Example:
        >>> next_of_check(History(), ()).name
        'zero-inputs'
    """
    wanted: list[type[Experiment]] = list(BEFORE_TRAINING)
    wanted += [TrainAgainstEval] if history.step >= SETTLED else []
    return _first([*wanted, *(THOROUGH if thorough else ())], history, made)


def _first(
    candidates: Iterable[type[Experiment]], history: History, made: Collection[str]
) -> Experiment | None:
    tried = fitting(history)
    for kind in candidates:
        if kind.name in made:
            continue
        if kind is GradientThroughTime and not _recurrent(history):
            continue
        # What cannot be learned by heart cannot tell true labels from shuffled ones.
        if kind is ShuffledLabels and (tried is None or tried.learned < LEARNED):
            continue
        return kind()
    return None


def _recurrent(history: History) -> bool:
    """Whether some recurrent layer was seen."""
    return any(operation.name in RECURRENCES for tape in history.tapes for operation in tape)
