"""One injection from beginning to end: the training, its resumption, and what it leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_plateau import PlateauCallback
from lightning_plateau.core import signal as signals
from lightning_plateau.core.journal import Journal
from tests.soak.injection import STEPS, Injection
from tests.soak.process import Ending, forked
from tests.soak.sabotage import sabotage
from tests.soak.saboteur import Saboteur, spoil_data
from tests.soak.training import latest, train

USUAL_S = 1.5
"""Seconds that a watched training takes, about."""


class Observed(PlateauCallback):
    """Saves on each rank what it found and recorded, when the training ends."""

    folder: Path

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_end(trainer, pl_module)
        self.save(trainer.global_rank)

    def save(self, rank: int) -> None:
        said = {
            "disabled": self.disabled,
            "found": [(finding.code, finding.message) for finding in self.findings],
            "steps": self.history[signals.LOSS].steps.tolist(),
            "clock": self.history.step,
        }
        torch.save(said, self.folder / f"said{rank}.pt")


@dataclass(frozen=True)
class Endings:
    """How the trainings of one injection ended.

    Attributes:
        first: The one with the fault.
        resumed: The one that went on from its last checkpoint; None where there was none.
        alone: The same without the library, which is what Lightning makes of that checkpoint.
    """

    first: Ending
    resumed: Ending | None = None
    alone: Ending | None = None

    @property
    def all(self) -> tuple[Ending, ...]:
        """Those that there were."""
        return tuple(e for e in (self.first, self.resumed, self.alone) if e is not None)


def play(injection: Injection, folder: Path) -> Endings:
    """Train with the fault, and go on from the last checkpoint where it ended the training."""
    kill = None
    if injection.kind.endswith("from outside"):
        which = signal.Signals[injection.kind.partition(" ")[0]]
        kill = which, injection.at / STEPS * USUAL_S
    first = forked(lambda: _train(injection, folder), folder, kill=kill)
    _put_away_broken(folder)
    checkpoint = latest(folder)
    ended = not (folder / "rank0.pt").exists()
    if first.hung or not ended or injection.distributed or checkpoint is None:
        return Endings(first)
    resumed = forked(lambda: _train(injection, folder, resume=checkpoint), folder)
    (folder / "alone").mkdir()
    alone = forked(bare(injection.module, folder / "alone", 1, checkpoint), folder)
    return Endings(first, resumed, alone)


def _train(injection: Injection, folder: Path, resume: Path | None = None) -> None:
    every_n_steps = injection.every_n_steps
    if injection.changed and resume is not None:
        every_n_steps += 3
    own = Observed(
        policy=injection.policy,  # type: ignore[arg-type]
        every_n_steps=every_n_steps,
        check=injection.check,
        dirpath=str(folder / "plateau"),
        quiet=not injection.kind.startswith("announcer"),
    )
    own.folder = folder
    _testify(folder / f"lines{int(resume is not None)}")
    beside: list[Any] = []
    if resume is None:
        spoil_data(injection, folder)
        sabotage(injection, own, folder)
        beside = [Saboteur(injection, folder)]
    ranks = 1 + injection.distributed
    train(injection.module, folder, own, *beside, ranks=ranks, resume=resume)


def bare(module: str, folder: Path, ranks: int, resume: Path | None = None) -> Callable[[], None]:
    """Return what trains without the library."""

    def work() -> None:
        train(module, folder, ranks=ranks, resume=resume)

    return work


def _testify(path: Path) -> None:
    """Write down each line that the journal says it has flushed, as soon as it says so."""
    append, file = Journal.append, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def witnessed(journal: Journal, record: Any) -> None:
        append(journal, record)
        if journal._file is not None:
            os.write(file, b".")

    Journal.append = witnessed  # type: ignore[method-assign]


def _put_away_broken(folder: Path) -> None:
    """Put away checkpoints that cannot be read: Lightning writes them in place."""
    for path in (folder / "checkpoints").glob("*.ckpt"):
        try:
            torch.load(path, weights_only=True)
        except Exception:  # noqa: BLE001 - whatever a cut-off file makes of it
            path.rename(path.with_suffix(".broken"))
