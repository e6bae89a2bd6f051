"""LP108: samples come again: in validation, or many times in an epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.repetition import Repetition, coincide_by_chance, repetition
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    DATA_CONSTANT,
    DATA_MEAN,
    DATA_STD,
    FINGERPRINTED,
    REPEATED,
    VALIDATION_FINGERPRINTED,
    VALIDATION_REPEATED,
)


@dataclass(frozen=True)
class DuplicateSamples(Rule):
    """Some samples of the validation set are samples of the training set.

    What it detects:
        Validation samples whose inputs are, bit for bit, those of training samples: a twentieth of
        them or more, and several times as many as coincide within the training set itself. Samples
        of few or binary features coincide by nature and then count only beyond that. Where
        validation runs on nothing but training data, which people do on purpose, and where an epoch
        holds few samples again and again (oversampling), it is a note and not a fault.

    Why it matters:
        The validation loss then measures memory. Early stopping, the choice of a checkpoint and
        every tuning trial follow a number that says nothing of new data.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.testing import history
        >>> signals = {
        ...     FINGERPRINTED: [1000.0],
        ...     REPEATED: [0.0],
        ...     VALIDATION_FINGERPRINTED: [200.0],
        ...     VALIDATION_REPEATED: [60.0],
        ... }
        >>> finding = DuplicateSamples().check(history(signals, profile=Profile(dataset_size=1000)))
        >>> finding.message
        '60 of 200 validation samples are samples that training was given'

    Remedies:
        Advice only: remove duplicates first, then split, then oversample and augment the training
        part alone.

    Known limitations:
        Copies that augmentation has changed are not recognized, nor are neighbouring frames or
        overlapping windows. At most 8,192 samples of the first epoch and of a validation are
        compared; the rest is extrapolated.

    References:
        Kapoor and Narayanan, 2023, Leakage and the reproducibility crisis in machine-learning-based
        science. Barz and Denzler, 2020, Do We Train on Test Data? Purging CIFAR of Near-Duplicates.
    """

    code: ClassVar[str] = "LP108"
    name: ClassVar[str] = "duplicate-samples"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (
        FINGERPRINTED,
        REPEATED,
        VALIDATION_FINGERPRINTED,
        VALIDATION_REPEATED,
        DATA_MEAN,
        DATA_STD,
        DATA_CONSTANT,
    )
    explains: ClassVar = ("LP804",)
    why: ClassVar[str] = "the loss on samples that training was given measures memory"

    least_leak: float = 0.05
    fewest_leaked: int = 3
    beyond_coincidence: float = 5.0
    whole: float = 0.95
    mostly_repeated: float = 0.8
    fewest_samples: int = 100

    def check(self, history: History) -> Finding | None:
        """Return the fault where validation repeats training, or a note where an epoch does."""
        found = repetition(history)
        if self._leaks(history, found):
            return self._leak(history, found)
        if found.share >= self.mostly_repeated and found.seen >= self.fewest_samples:
            return None if coincide_by_chance(history) else self._few(history, found)
        return None

    def _leaks(self, history: History, found: Repetition) -> bool:
        if found.validation_repeated < self.fewest_leaked or found.leak < self.least_leak:
            return False
        share = found.validation_repeated / found.validation_seen
        return share > self.beyond_coincidence * found.share or not coincide_by_chance(history)

    def _leak(self, history: History, found: Repetition) -> Finding:
        whole = found.leak >= self.whole
        some = f"{found.validation_repeated:.0f} of {found.validation_seen:.0f} validation samples"
        says = f"{some} are samples that training was given"
        if found.coverage < 1.0:
            says += f", of which {100 * found.coverage:.2g} % were compared"
        finding = self.finding(
            history,
            0.95,
            f"validation runs on training data: {says}" if whole else says,
            evidence=(
                Evidence("validation samples seen in training", found.leak, self.least_leak),
                Evidence("training samples that coincide", found.share, None),
            ),
            fix="split into training and validation before anything is copied, oversampled or "
            "augmented, and by group where samples belong together",
        )
        return replace(finding, severity=Severity.INFO) if whole else finding

    def _few(self, history: History, found: Repetition) -> Finding:
        distinct = found.seen - found.repeated
        finding = self.finding(
            history,
            0.9,
            f"of {found.seen:.0f} samples of the first epoch only {distinct:.0f} are distinct",
            evidence=(Evidence("samples that had come before", found.share, self.mostly_repeated),),
            fix="if that is not meant: does __getitem__ use its index?",
        )
        return replace(finding, severity=Severity.INFO)
