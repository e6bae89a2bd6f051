"""Failures of the library's own: functions of it that raise. For good, so each needs a process."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch

from lightning_plateau import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.experiments import plan
from lightning_plateau.recording.block import StepBlock
from lightning_plateau.recording.recorder import Recorder
from lightning_plateau.report import html
from lightning_plateau.report.announcer import Announcer
from lightning_plateau.report.loggers import LoggerFeed
from lightning_plateau.treatment.treatment import Treatment
from tests.soak.injection import STEPS, Injection

PLANTED = "planted by the soak"
PROBES = (
    "begin_batch", "observe_loss", "end_tape", "observe_gradients", "end_batch", "drain",
    "history", "record_value", "end_epoch", "observe_validation", "record_batch", "close_unstepped",
)  # fmt: skip
TREATMENTS = (
    "before_batch", "before_step", "after_step", "learning_rates", "note_batch", "consider",
    "tell_skipped", "end", "start", "_try", "_settle", "state_dict",
)  # fmt: skip
ONCE = frozenset(
    ("end", "start", "_try", "_settle", "report", "save_report", "save", "run", "begin", "conclude")
)
EVERY_STEP = frozenset(PROBES[:5] + TREATMENTS[:5])


class PlantedError(Exception):
    """What sabotaged functions raise."""


def sabotage(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    """Make a part of the library fail, if that is what is injected."""
    act = _ACTS.get(injection.kind.removesuffix(" on one rank").removesuffix(" on rank zero"))
    if act is not None:
        act(injection, callback, folder)


def fired(folder: Path) -> None:
    """Note that the fault has happened."""
    (folder / "fired").touch()


def _fail() -> None:
    raise PlantedError(PLANTED)


def _trip(
    owner: Any, name: str, injection: Injection, folder: Path, act: Callable[[], None] = _fail
) -> None:
    """Let a function fail at one of its calls and ever after, on the rank that is chosen."""
    original, calls = getattr(owner, name), count()
    # What is called once a diagnosis, or once a training, is called less often than every step.
    at = injection.at if name in EVERY_STEP else injection.at * 5 // STEPS
    if name in ONCE:
        at = 0

    def tripped(*arguments: Any, **settings: Any) -> Any:
        if next(calls) >= at and _chosen(injection):
            fired(folder)
            act()
        return original(*arguments, **settings)

    setattr(owner, name, tripped)


def _chosen(injection: Injection) -> bool:
    """Whether this is the rank on which it happens."""
    if not injection.distributed or not torch.distributed.is_initialized():
        return not injection.distributed
    return torch.distributed.get_rank() == injection.rank


def _rule(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    _trip(type(injection.choice(callback._settings.rules)), "check", injection, folder)


def _probe(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    _trip(Recorder, injection.choice(PROBES), injection, folder)


def _treatment(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    _trip(Treatment, injection.choice(TREATMENTS), injection, folder)


def _experiment(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    kinds = [k for k in vars(plan).values() if isinstance(k, type) and "run" in vars(k)]
    for kind in kinds:
        _trip(kind, "run", injection, folder)


def _logger(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    _trip(LoggerFeed, injection.choice(("begin", "update", "conclude")), injection, folder)


def _announcer(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    def refuse() -> None:
        raise BrokenPipeError(32, PLANTED)

    _trip(Announcer, injection.choice(("__call__", "report")), injection, folder, refuse)


def _report(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    _trip(html, "save_report", injection, folder)


def _journal(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    _trip(Journal, "_write", injection, folder)


def _statistics(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    """Spoil what the recorder measured; the training itself is sound."""
    close_row = StepBlock.close_row

    def spoiled(block: StepBlock) -> None:
        if block._first_step + block.rows >= injection.at:
            fired(folder)
            block._table[block.rows].fill_(float("nan"))
        close_row(block)

    StepBlock.close_row = spoiled  # type: ignore[method-assign]


def _disk_full(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    """Let no file that the callback writes grow beyond some bytes: the kernel refuses the rest."""
    room, hard = int(injection.where**2 * 4096), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for name in [name for name in vars(PlateauCallback) if name.startswith("on_")]:
        hook = getattr(PlateauCallback, name)

        def starved(*arguments: Any, _hook: Any = hook) -> Any:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
            try:
                return _hook(*arguments)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

        setattr(PlateauCallback, name, starved)
    fired(folder)


def _folder_is_a_file(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    (folder / "plateau").write_text("taken")
    fired(folder)


def _killed(injection: Injection, callback: PlateauCallback, folder: Path) -> None:
    """Die in the middle of a line of the journal, or while the history is written."""
    if injection.where > 0.75:
        _trip(History, "save", injection, folder, _die)
    elif injection.where > 0.5:
        write, calls = Journal._write, count()

        def cut_off(journal: Journal, entry: Any) -> None:
            if next(calls) == injection.at * 5 // STEPS and journal._file is not None:
                fired(folder)
                journal._file.write('{"kind": "find')
                journal._file.flush()
                _die()
            write(journal, entry)

        Journal._write = cut_off  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_ACTS: dict[str, Callable[[Injection, PlateauCallback, Path], None]] = {
    "rule": _rule,
    "probe": _probe,
    "treatment": _treatment,
    "experiment": _experiment,
    "logger": _logger,
    "announcer": _announcer,
    "report": _report,
    "journal": _journal,
    "statistics": _statistics,
    "disk full": _disk_full,
    "folder is a file": _folder_is_a_file,
    "SIGKILL": _killed,
}
