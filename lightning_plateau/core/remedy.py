"""The abstract remedy, what it did, and what became of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from lightning_plateau.core.profile import Value
from lightning_plateau.core.signal import LOSS, Signal


class Safety(StrEnum):
    """What a remedy may cost a training that was not sick."""

    SAFE = "safe"
    """It cannot hurt a healthy run."""
    UNSAFE = "unsafe"
    """It may change a healthy run for the worse; tried only by ``policy="auto"``, on trial."""
    ADVICE = "advice"
    """It is shown, never applied."""


@dataclass(frozen=True)
class Change:
    """What ``Remedy.apply`` did, with all that ``revert`` needs.

    Attributes:
        before: The values that were changed, for people: ``{"learning_rate": 0.1}``.
        after: The same values afterwards.
        undo: What ``revert`` needs: plain types and tensors only, so that checkpoints carry it.
    """

    before: Mapping[str, Value] = field(default_factory=dict)
    after: Mapping[str, Value] = field(default_factory=dict)
    undo: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Remedy(ABC):
    """One change of a training, described as frozen data whose fields are its settings.

    Class attributes:
        name: What it does, in kebab case: ``"decay-learning-rate"``.
        safety: What it may cost a training that was not sick.
        standing: True where it is in force from then on (a guard on every step); False where it
            is done once.
        final: True where nothing comes after it (the training stops).
        keeps_state: True where ``Change.undo`` holds the whole state of the run, so that a trial
            needs no snapshot beside it.
        renews: True where it changes weights or structure: taken back, the whole state before the
            trial is restored.
        lasting: True where a checkpoint of the training does not carry all of it, so that
            ``resume`` has to put it in force again.
        replaces_optimizer: True where ``resume`` must come before Lightning loads the state of the
            optimizers.
        watched: The signal that tells whether it helps.
        levels: Settings to try, the mildest first; the next ones are taken where the remedy was
            kept and the fault came back.
    """

    name: ClassVar[str]
    safety: ClassVar[Safety]
    standing: ClassVar[bool] = False
    final: ClassVar[bool] = False
    keeps_state: ClassVar[bool] = False
    renews: ClassVar[bool] = False
    lasting: ClassVar[bool] = False
    replaces_optimizer: ClassVar[bool] = False
    watched: ClassVar[Signal] = LOSS
    levels: ClassVar[tuple[Mapping[str, Value], ...]] = ({},)

    @abstractmethod
    def obstacle(self, run: Any) -> str | None:
        """Return why this remedy cannot or must not work in ``run``; None where it can."""

    @abstractmethod
    def apply(self, run: Any) -> Change:
        """Change ``run`` (a ``lightning_plateau.training.run.Run``) and say what was changed."""

    @abstractmethod
    def revert(self, run: Any, change: Change) -> None:
        """Restore exactly what ``apply`` changed."""

    def resume(self, run: Any, change: Change) -> None:  # noqa: B027 - nothing to do is the rule
        """Put in force again what a checkpoint does not carry; nothing unless ``lasting``."""


class Verdict(StrEnum):
    """How a trial ended."""

    KEPT = "kept"
    REVERTED = "reverted"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Intervention:
    """A remedy that was applied, or would have been in a dry run.

    Attributes:
        number: Counts the interventions of a run from 1.
        step: Optimizer step at which it was applied.
        remedy: Name of the remedy.
        code: Code of the finding that it answers.
        before: The values that were changed.
        after: The same values afterwards.
        dry_run: Whether nothing was in fact changed.
    """

    number: int
    step: int
    remedy: str
    code: str
    before: Mapping[str, Value] = field(default_factory=dict)
    after: Mapping[str, Value] = field(default_factory=dict)
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an intervention.

    Attributes:
        number: Number of the intervention.
        step: Optimizer step at which it was judged.
        remedy: Name of the remedy.
        code: Code of the finding that it answered.
        verdict: Kept or reverted.
        reason: One sentence with the numbers in it.
        before: Measured values before the remedy, such as ``{"loss": 7.1}``.
        after: The same at the end of probation.
    """

    number: int
    step: int
    remedy: str
    code: str
    verdict: Verdict
    reason: str
    before: Mapping[str, Value] = field(default_factory=dict)
    after: Mapping[str, Value] = field(default_factory=dict)
