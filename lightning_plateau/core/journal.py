"""The journal: an append-only record of findings, interventions and outcomes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.remedy import Intervention, Outcome

Record = Finding | Intervention | Outcome
KINDS: dict[str, type[Any]] = {"finding": Finding, "intervention": Intervention, "outcome": Outcome}


@dataclass(frozen=True, slots=True)
class Note:
    """A remark of the run itself: it started, resumed, ended, or a remedy was withheld and why."""

    step: int
    text: str


KINDS["note"] = Note


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal.

    Attributes:
        kind: ``"finding"``, ``"intervention"``, ``"outcome"`` or ``"note"``.
        time_s: Seconds since the epoch at which it was written.
        record: What was recorded.
    """

    kind: str
    time_s: float
    record: Record | Note


class Journal:
    """An append-only list of entries, in memory and, where a path is given, as JSON lines on disk.

    Every line is flushed when it is written; a file whose last line was cut off is readable.
    A disk that fails does not stop the journal in memory: the error is kept in ``failure``.

    Args:
        path: File to append to; None keeps the journal in memory only.

    Example:
        >>> journal = Journal()
        >>> journal.append(Note(0, "training started"))
        >>> [entry.kind for entry in journal]
        ['note']
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._entries: list[Entry] = []
        self._file: IO[str] | None = None
        self.path: Path | None = None
        self.failure: OSError | None = None
        if path is not None:
            self.open(path)

    def open(self, path: str | os.PathLike[str]) -> None:
        """Append to ``path`` from now on, what is already in memory included."""
        self.close()
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _mend_last_line(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            self.failure = error
            return
        for entry in self._entries:
            self._write(entry)

    def close(self) -> None:
        """Close the file; the entries in memory stay."""
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            file.close()
        except OSError as error:  # a full disk refuses what is still in the buffer, even here
            self.failure = error

    def append(self, record: Record | Note) -> None:
        """Add one record, stamped with the time."""
        kind = next(name for name, cls in KINDS.items() if type(record) is cls)
        entry = Entry(kind, time.time(), record)
        self._entries.append(entry)
        self._write(entry)

    def _write(self, entry: Entry) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(_line(entry), allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            self.failure = error
            self.close()

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings in order of time."""
        return tuple(e.record for e in self._entries if isinstance(e.record, Finding))

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """The interventions in order of time."""
        return tuple(e.record for e in self._entries if isinstance(e.record, Intervention))

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes in order of time."""
        return tuple(e.record for e in self._entries if isinstance(e.record, Outcome))

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes in order of time."""
        return tuple(e.record for e in self._entries if isinstance(e.record, Note))

    def state_dict(self) -> dict[str, Any]:
        """Return the entries in plain types."""
        return {"entries": [json.dumps(_line(entry)) for entry in self._entries]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the entries in memory by those of ``state``; a file is not rewritten."""
        self._entries = [_entry(json.loads(line)) for line in state["entries"]]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Journal:
        """Read a journal from disk; a last line that was cut off by a crash is left out.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no text, or a line before the last is not a journal line.
        """
        journal = cls()
        try:
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"expected a journal of JSON lines at {path}, but {error}") from error
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                journal._entries.append(_entry(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):
                    break
                raise ValueError(f"line {number} of {path} is no journal line: {error}") from error
        return journal


def _mend_last_line(path: Path) -> None:
    """Make the file end with a whole line: a crash may have cut the last one off."""
    if not path.is_file():
        return
    written = path.read_bytes()
    end = written.rfind(b"\n") + 1
    if end == len(written):
        return
    with path.open("r+b") as file:
        try:
            json.loads(written[end:])
        except ValueError:
            file.truncate(end)
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


def _line(entry: Entry) -> dict[str, Any]:
    return {"kind": entry.kind, "time_s": entry.time_s, **to_plain(entry.record)}


def _entry(line: dict[str, Any]) -> Entry:
    kind, time_s = line.pop("kind"), line.pop("time_s")
    return Entry(kind, time_s, from_plain(KINDS[kind], line))
