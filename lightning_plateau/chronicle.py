"""The chronicle of a run: what was found and done, told as it happens and kept as far as it can be.

Whatever fails here (a disk, a logger, a closed terminal) costs what it was to write, and is told
once; the training goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal, Note, Record
from lightning_plateau.ledger import Ledger
from lightning_plateau.report.announcer import Announcer
from lightning_plateau.report.console import width
from lightning_plateau.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning_plateau.report.loggers import LoggerFeed


class Chronicle:
    """Tells what is found and done, and writes it down.

    Args:
        symptoms: Codes that stand for symptoms.
        quiet: Whether nothing is said.

    Attributes:
        journal: Findings, interventions and outcomes, in order.
        ledger: The findings that stand.
        clock: Tells the optimizer step at which something could not be watched.

    Example:
        >>> chronicle = Chronicle(frozenset({"LP401"}), quiet=True)
        >>> chronicle.unsupported("activations are not watched")
        >>> [finding.code for finding in chronicle.ledger.findings]
        ['LP903']
    """

    def __init__(self, symptoms: frozenset[str], *, quiet: bool) -> None:
        self.journal = Journal()
        self.ledger = Ledger(symptoms)
        self.clock: Callable[[], int] = int
        self._announcer = Announcer(quiet=quiet)
        self._folder: RunFolder | None = None
        self._feed: LoggerFeed | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process can be started with: all but the run under way."""
        return {**vars(self), "clock": int, "_feed": None}

    def begin(self, *, speaks: bool) -> None:
        """Begin with a run; ``speaks`` on the rank that tells."""
        self.clock = int
        self._announcer.enabled = speaks

    def forget(self) -> None:
        """Forget what was told: another run begins, not one that goes on."""
        self.journal = Journal()
        self.ledger.clear()

    # -- where it is written --------------------------------------------------------------------

    def open_folder(self, path: Path | None) -> None:
        """Write to the folder ``path`` from now on; None for nowhere."""
        self._folder = None if path is None else RunFolder(path, self.journal)
        if self._folder is not None and self._folder.failure is not None:
            self.unsupported(
                f"the journal cannot be written to {path} ({self._folder.failure}); "
                "it is kept in memory: pass a writable dirpath"
            )

    def open_loggers(self, feed: LoggerFeed | None, history: History) -> None:
        """Log by ``feed`` from now on; None for not at all."""
        self._feed = feed
        self._log(history, lambda feed: feed.begin)

    def log(self, history: History) -> None:
        """Log what is new."""
        self._log(history, lambda feed: feed.update)

    def _log(self, history: History, part: Callable[[LoggerFeed], _Feeding]) -> None:
        if self._feed is None:
            return
        feeding = part(self._feed)
        if not self.attempt(
            "nothing more is logged: a logger failed", lambda: feeding(history, self.journal)
        ):
            self._feed = None

    # -- what is told ---------------------------------------------------------------------------

    def tell(self, new: Sequence[Finding]) -> None:
        """Write findings down, and say them."""
        for finding in new:
            self.journal.append(finding)
            self.say(finding)

    def note(self, note: Note) -> None:
        """Write a note down, and say it."""
        self.journal.append(note)
        self.say(note)

    def say(self, record: Record | Note) -> None:
        """Say what is in the journal already."""
        try:
            self._announcer(record)
        except Exception as error:  # noqa: BLE001 - it becomes LP903, and the run goes on
            self._announcer.enabled = False
            self.unsupported(f"nothing more is said: {type(error).__name__}: {error}")

    def unsupported(self, message: str, severity: Severity = Severity.INFO) -> None:
        """Say once what could not be watched."""
        finding = Finding(
            "LP903",
            "unsupported-here",
            self.clock(),
            severity,
            1.0,
            message,
            why="the training goes on; findings that rest on it are not made",
        )
        self.tell(self.ledger.add((finding,)))

    def attempt(self, what: str, action: Callable[[], object]) -> bool:
        """Do what a run can do without; return whether it worked."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - it becomes LP903, and the run goes on
            self.unsupported(f"{what}: {type(error).__name__}: {error}")
            return False
        return True

    # -- the end --------------------------------------------------------------------------------

    def conclude(self, findings: tuple[Finding, ...], history: History) -> None:
        """Write history and report, log the end, and say it all in one screen."""
        # No run needs these before its end.
        from lightning_plateau.report import html
        from lightning_plateau.report.terminal import summary

        written = self.save(history)
        if written and self._folder is not None and html.available():
            page = partial(html.save_report, self._folder.page, findings, self.journal, history)
            written += [self._folder.page] * self.attempt("report.html cannot be written", page)
        self.log(history)
        self._log(history, lambda feed: feed.conclude)
        text = summary(findings, self.journal, history, written, width=width())
        self.attempt("the report is not shown", partial(self._announcer.report, text))

    def save(self, history: History) -> list[Path]:
        """Write the history; return the files that were written."""
        if self._folder is None:
            return []
        told = self._folder.failure
        written = self._folder.save(history)
        if self._folder.failure is not told:
            self.unsupported(f"the history cannot be written: {self._folder.failure}")
        return written

    def close(self) -> None:
        """Close the journal's file."""
        self.journal.close()

    def state_dict(self) -> dict[str, Any]:
        """Return journal and ledger in plain types."""
        return {"journal": self.journal.state_dict(), "ledger": self.ledger.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` ended."""
        self.journal = Journal()
        self.journal.load_state_dict(state["journal"])
        self.ledger.load_state_dict(state["ledger"])


_Feeding = Callable[[History, Journal], None]
