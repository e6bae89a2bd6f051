"""Reading a run back from its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.remedy import Verdict
from lightning_plateau.core.signal import SKIPPED_STEPS
from lightning_plateau.diagnosis import diagnose_since
from lightning_plateau.report.logged_run import (
    EVENT_FILES,
    METRICS_FILE,
    logged_files,
    read_logged,
)

HISTORY_FILE = "history.npz"
JOURNAL_FILE = "journal.jsonl"
SKIPPING = "skip-step"
MOST_NAMED = 4


@dataclass(frozen=True)
class SavedRun:
    """What a run left on disk.

    Attributes:
        folder: The run's plateau folder.
        history: What was recorded.
        journal: What happened; empty where there is no journal.
        files: The files that were read.
        names: For a run that was read from a logger's files: what each signal was called there.
    """

    folder: Path
    history: History
    journal: Journal = field(default_factory=Journal)
    files: tuple[Path, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the run as it was at its end, after all that was done to it."""
        skipped = self.history[SKIPPED_STEPS]
        steps = skipped.steps[np.nan_to_num(skipped.values) > 0]
        seen = self.history.without(set(steps.tolist()))
        return diagnose_since(seen, _episode(self.journal))


def _episode(journal: Journal) -> int:
    """Return the step at which the run was last changed; a skipped step changes nothing."""
    changed = [i.step for i in journal.interventions if not i.dry_run and i.remedy != SKIPPING]
    restored = [o.step for o in journal.outcomes if o.verdict is Verdict.REVERTED]
    return max([0, *changed, *restored])


def read_run(path: str | os.PathLike[str]) -> SavedRun:
    """Read a run.

    Args:
        path: The run's plateau folder, the log folder above it, or a history file; of a run that
            never had the plugin, the folder of its CSVLogger or TensorBoardLogger, or their file.

    Raises:
        FileNotFoundError: If no history is there; the message says where it was looked for.
        ValueError: If a file is there and is no history or journal of ours.
    """
    logged = logged_files(Path(path))
    if logged and (Path(path).is_file() or not _has_history(Path(path))):
        read = read_logged(logged)
        return SavedRun(logged[0].parent, read.history, files=read.files, names=read.names)
    history = _history_file(Path(path))
    journal = history.with_name(JOURNAL_FILE)
    there = journal.is_file()
    return SavedRun(
        folder=history.parent,
        history=History.load(history),
        journal=Journal.read(journal) if there else Journal(),
        files=(journal, history) if there else (history,),
    )


def _candidates(path: Path) -> tuple[Path, Path]:
    return path / HISTORY_FILE, path / "plateau" / HISTORY_FILE


def _has_history(path: Path) -> bool:
    return any(candidate.is_file() for candidate in _candidates(path))


def _history_file(path: Path) -> Path:
    if path.is_file() and path.name != JOURNAL_FILE:
        return path
    if path.is_file():
        path = path.parent
    for candidate in _candidates(path):
        if candidate.is_file():
            return candidate
    if not path.exists():
        raise FileNotFoundError(
            f"expected a run's plateau folder or its {HISTORY_FILE}, but there is no {path}"
        )
    raise FileNotFoundError(
        f"expected {HISTORY_FILE} in {path}, or {METRICS_FILE} or {EVENT_FILES} of a logger, but "
        f"they are not there. {_below(path)}"
    )


def _below(path: Path) -> str:
    """Return what to pass in place of a folder that is no run."""
    wanted = (HISTORY_FILE, METRICS_FILE, EVENT_FILES)
    places = (f"{depth}{name}" for depth in ("*/", "*/*/") for name in wanted)
    runs = sorted({found.parent for place in places for found in path.glob(place)})
    if not runs:
        return (
            "PlateauCallback writes its history when a fit ends, into the folder plateau/ below "
            "the log folder"
        )
    more = f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else ""
    return f"Pass a run below it: {', '.join(map(str, runs[:MOST_NAMED]))}{more}"
