"""One program, trained under the eyes of the callback: what it said, and when."""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from lightning_plateau.callback import PlateauCallback
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.framework import PACKAGE, Callback, Trainer
from lightning_plateau.occasions import When
from tests.faults.program import Program, Training


@dataclass(frozen=True)
class Observation:
    """What the diagnosis made of a program.

    Attributes:
        findings: All that was found, the most probable cause first.
        history: What was recorded.
        error: What the training died of; empty where it ended well.
        told: What was said while it ran, in order: findings that were gone at the end included.
        told_at: By code, how many optimizer steps had been made when it was said first.
        learned: Whether the module can do its task; None where the program does not know.
        tried: Experiments that were made, and the training steps that each took.
    """

    findings: tuple[Finding, ...]
    history: History
    error: str = ""
    told: tuple[Finding, ...] = ()
    told_at: Mapping[str, int] = field(default_factory=dict)
    learned: bool | None = None
    tried: Mapping[str, float] = field(default_factory=dict)

    @property
    def heads(self) -> tuple[Finding, ...]:
        """The findings that are shown as faults: no notes, none that another accounts for."""
        return tuple(filter(is_head, self.findings))

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the heads in order."""
        return tuple(finding.code for finding in self.heads)


def is_head(finding: Finding) -> bool:
    """Whether a finding is shown as a fault of its own."""
    return finding.severity is not Severity.INFO and not finding.explained_by


class _Witness(Callback):
    """Notes how many steps had been made when a code was told first; comes after the callback."""

    def __init__(self, callback: PlateauCallback) -> None:
        self._callback = callback
        self._seen = 0
        self.told_at: dict[str, int] = {}

    def look(self, trainer: Any, *_: Any) -> None:
        journal = self._callback.journal
        if len(journal) == self._seen:
            return
        self._seen = len(journal)
        steps = trainer.fit_loop.epoch_loop._batches_that_stepped
        for finding in journal.findings:
            self.told_at.setdefault(finding.code, steps)

    on_before_backward = on_train_batch_end = on_train_end = on_exception = look


def observe(
    program: Program, seed: int = 0, *, policy: str = "observe", experiments: When = "when-stuck"
) -> Observation:
    """Train ``program`` once from ``seed`` and return what was found."""
    torch.manual_seed(seed)
    training = program.build()
    torch.manual_seed(seed)  # the same order of samples, however many numbers the build drew
    with tempfile.TemporaryDirectory() as folder:
        callback = PlateauCallback(policy=policy, dirpath=folder, experiments=experiments)  # type: ignore[arg-type]
        witness = _Witness(callback)
        error = fit(training, [callback, witness])
    return Observation(
        callback.findings,
        callback.history,
        error,
        callback.journal.findings,
        witness.told_at,
        None if training.learned is None else bool(not error and training.learned()),
        _tried(callback),
    )


_TRIED = re.compile(r"experiment (\S+) on a copy \((\d+) steps?")


def _tried(callback: PlateauCallback) -> dict[str, float]:
    found = [_TRIED.match(note.text) for note in callback.journal.notes]
    return {one[1]: float(one[2]) for one in found if one is not None}


def fit(training: Training, callbacks: list[Callback]) -> str:
    """Train quietly; return what the training died of."""
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        **training.settings,
    }
    extra = list(settings.pop("callbacks", []))
    with _silence():
        trainer = Trainer(callbacks=[*callbacks, *extra], **settings)
        try:
            trainer.fit(training.module, training.train, training.validation)
        except Exception as error:  # noqa: BLE001 - many faults end in one; it is told
            return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def _silence() -> Iterator[None]:
    """Let neither Lightning nor the callback say anything."""
    ours, theirs = logging.getLogger("lightning_plateau"), logging.getLogger(PACKAGE)
    levels, listener = (ours.level, theirs.level), logging.NullHandler()
    ours.setLevel(logging.CRITICAL)
    theirs.setLevel(logging.ERROR)
    ours.addHandler(listener)  # without any, it would speak on standard output
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ours.removeHandler(listener)
        ours.setLevel(levels[0])
        theirs.setLevel(levels[1])
