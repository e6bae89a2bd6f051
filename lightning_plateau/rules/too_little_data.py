"""LP107: there is too little data for what is to be learned."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.generalization import Generalization, generalization, improves
from lightning_plateau.core.history import History
from lightning_plateau.core.labels import labels
from lightning_plateau.core.repetition import distinct_samples
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.samples import samples_of
from lightning_plateau.core.signal import (
    BATCH_SIZE,
    FINGERPRINTED,
    LABEL_COUNTS,
    LOSS,
    REPEATED,
    VALIDATION_LOSS,
)


@dataclass(frozen=True)
class TooLittleData(Rule):
    """There is too little data for what is to be learned.

    What it detects:
        A training set of at most 30 samples a class (or 100 samples, where there are no classes),
        each for ten parameters or more, which the model has learned by heart: its loss is below a
        quarter of that of guessing, and of that gain the validation loss never saw four fifths.
        Said when training has ended: what is learned by heart first may be understood later.
        Samples that an epoch repeats count once. Small data that carry over are not reported, nor
        is a validation loss that is still coming down, nor a single batch of a larger set: to learn
        that by heart is a test that many recipes advise.

    Why it matters:
        What few samples have in common by chance outweighs what all samples have in common; no
        setting of the optimizer can tell the two apart.

    Example:
        >>> from lightning_plateau.core.profile import ParameterFact, Profile
        >>> from lightning_plateau.testing import history
        >>> profile = Profile((ParameterFact("w", "", (100, 50)),), dataset_size=40)
        >>> validation = {VALIDATION_LOSS: [0.95, 0.8, 0.7, 0.7, 0.7]}
        >>> losses = np.geomspace(1.0, 0.01, 100)
        >>> run = history(validation, loss=losses, every=24, profile=profile, finished=True)
        >>> TooLittleData().check(run).message
        '40 samples for 5000 parameters: of what training gained, validation gained 31 % at best'

    Remedies:
        augment-batch; advice: collect more, start from a pretrained network and train its head, or
        take a smaller model. What more data would bring shows by training on halves and quarters.

    Known limitations:
        A validation set of another kind than the training set looks the same, and so do targets
        that are mostly noise.

    References:
        Goodfellow et al., 2016, Deep Learning, chapter 11.3 (whether to gather more data). Hestness
        et al., 2017, Deep Learning Scaling is Predictable, Empirically. Power et al., 2022,
        Grokking: Generalization Beyond Overfitting on Small Algorithmic Datasets.
    """

    code: ClassVar[str] = "LP107"
    name: ClassVar[str] = "too-little-data"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (
        LOSS,
        VALIDATION_LOSS,
        BATCH_SIZE,
        LABEL_COUNTS,
        FINGERPRINTED,
        REPEATED,
    )
    explains: ClassVar = ("LP802",)
    remedies: ClassVar = ("augment-batch",)
    why: ClassVar[str] = "what few samples have in common by chance outweighs what all have"

    fewest_validations: int = 3
    per_class: float = 30.0
    in_all: float = 100.0
    least_parameters: float = 10.0
    learned: float = 0.25
    least_carried: float = 0.8

    def check(self, history: History) -> Finding | None:
        """Return the fault where a few samples were learned by heart."""
        beside, size = generalization(history), distinct_samples(history)
        if not history.finished or size is None or size < 1.0:
            return None
        if len(beside) < self.fewest_validations or improves(beside.validation):
            return None
        if _a_rehearsal(history):
            return None
        classes, parameters = _classes(history), history.profile.trainable_size
        if size > (self.per_class * classes if classes > 1 else self.in_all):
            return None
        carried = self._carried(history, beside)
        if parameters < self.least_parameters * size or not carried < self.least_carried:
            return None
        of = f" of {classes} classes" if classes > 1 else ""
        return self.finding(
            history,
            0.75 if carried < 0.7 else 0.6,
            f"{size:.0f} samples{of} for {parameters} parameters: of what training gained, "
            f"validation gained {100 * max(0.0, carried):.0f} % at best",
            evidence=(
                Evidence("different training samples", size, None),
                Evidence("gain that carried over", carried, self.least_carried),
            ),
            fix="more data before all; else augmentation, a pretrained network of which only the "
            "head is trained, or a smaller model",
        )

    def _carried(self, history: History, beside: Generalization) -> float:
        """Return which part of the gain of training showed in validation; inf where none is."""
        start = chance_loss(history) or _first(history)
        now, best = float(beside.training[-1]), float(beside.validation.min())
        if not 0.0 <= now <= self.learned * start:
            return inf
        return (start - best) / (start - now) if start > now else inf


def _a_rehearsal(history: History) -> bool:
    """Whether each epoch is one batch of a larger data set: ``overfit_batches=1``."""
    size, sizes = history.profile.dataset_size, history[BATCH_SIZE].finite.values
    one = history.profile.batches_per_epoch == 1 and size is not None and len(sizes) > 0
    return bool(one and sizes.max() < size)


def _classes(history: History) -> int:
    found, counted = samples_of(history), labels(history)
    if found is None or not found.classes:
        return 0
    return len(counted.names) if counted is not None else found.classes


def _first(history: History) -> float:
    losses = history[LOSS].finite.values
    return float(np.clip(losses[0], -1e100, 1e100)) if len(losses) else 0.0
