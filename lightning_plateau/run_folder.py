"""The folder of a run: its journal while it goes on, its history when it ends."""

from __future__ import annotations

from pathlib import Path

from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal

JOURNAL = "journal.jsonl"
HISTORY = "history.npz"
REPORT = "report.html"


class RunFolder:
    """Where the files of one run are written; a disk that fails costs the files, not the run.

    Files of an earlier run in the same folder are set aside in ``earlier-1``, ``earlier-2`` …

    Args:
        path: The folder; it is made where it does not exist.
        journal: The journal to write down from now on, with what it holds already.

    Attributes:
        failure: What the disk refused; None while nothing.

    Example:
        >>> import tempfile
        >>> folder = RunFolder(Path(tempfile.mkdtemp()) / "plateau", Journal())
        >>> [path.name for path in folder.save(History())]
        ['journal.jsonl', 'history.npz']
    """

    def __init__(self, path: Path, journal: Journal) -> None:
        self.failure: OSError | None = None
        self._path = path
        try:
            _set_aside(path)
        except OSError as error:
            self.failure = error
            return
        journal.open(path / JOURNAL)
        self.failure = journal.failure

    @property
    def page(self) -> Path:
        """Where the report belongs."""
        return self._path / REPORT

    def save(self, history: History) -> list[Path]:
        """Write the history; return the files that were written."""
        if self.failure is not None:
            return []
        try:
            return [self._path / JOURNAL, history.save(self._path / HISTORY)]
        except OSError as error:
            self.failure = error
            return []


def _set_aside(folder: Path) -> None:
    found = [folder / name for name in (JOURNAL, HISTORY, REPORT) if (folder / name).exists()]
    if not found:
        return
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    aside = folder / f"earlier-{number}"
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
