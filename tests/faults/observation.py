"""One program, trained under the eyes of the callback: what it said, and when."""

from __future__ import annotations

import logging
import tempfile
import warnings
from dataclasses import dataclass

import torch

from lightning_plateau.callback import PlateauCallback
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.framework import PACKAGE, Trainer
from tests.faults.program import Program, Training


@dataclass(frozen=True)
class Observation:
    """What the diagnosis made of a program.

    Attributes:
        findings: All that was found, the most probable cause first.
        history: What was recorded.
        error: What the training died of; empty where it ended well.
    """

    findings: tuple[Finding, ...]
    history: History
    error: str = ""

    @property
    def heads(self) -> tuple[Finding, ...]:
        """The findings that are shown as faults: no notes, none that another accounts for."""
        return tuple(
            f for f in self.findings if f.severity is not Severity.INFO and not f.explained_by
        )

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the heads in order."""
        return tuple(finding.code for finding in self.heads)


def observe(program: Program, seed: int = 0, *, policy: str = "observe") -> Observation:
    """Train ``program`` once from ``seed`` and return what was found."""
    torch.manual_seed(seed)
    training = program.build()
    torch.manual_seed(seed)  # the same order of samples, however many numbers the build drew
    with tempfile.TemporaryDirectory() as folder:
        callback = PlateauCallback(policy=policy, dirpath=folder)  # type: ignore[arg-type]
        error = _fit(training, callback)
    return Observation(callback.findings, callback.history, error)


def _fit(training: Training, callback: PlateauCallback) -> str:
    """Train quietly; return what the training died of."""
    logging.getLogger(PACKAGE).setLevel(logging.ERROR)
    logging.getLogger("lightning_plateau").setLevel(logging.CRITICAL)
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(callbacks=[callback, *extra], **settings)
        try:
            trainer.fit(training.module, training.train, training.validation)
        except Exception as error:  # noqa: BLE001 - many faults end in one; it is told
            return f"{type(error).__name__}: {error}"
    return ""
