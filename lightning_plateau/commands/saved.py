"""What `diagnose` and `report` share: a saved run is read and told of."""

from __future__ import annotations

from typing import Any

from lightning_plateau.commands.command import checked
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.quantities import quantity
from lightning_plateau.report.console import show, width
from lightning_plateau.report.phrases import counted, wrapped
from lightning_plateau.report.saved_run import SavedRun, read_run
from lightning_plateau.report.terminal import full_report, summary

UNWATCHED = (
    "curves show that something is wrong, seldom why: train again with PlateauCallback() among the "
    "callbacks, or ask before: lightning-plateau check MODULE --data DATA"
)


def add_output(command: Any) -> None:
    """Add how much is told, and in which form."""
    form = command.add_mutually_exclusive_group()
    form.add_argument("--all", action="store_true", help="every finding, in full")
    form.add_argument("--json", action="store_true", help="as JSON")


def read(path: str) -> SavedRun:
    """Return a saved run."""
    with checked(OSError, ValueError):
        return read_run(path)


def tell(run: SavedRun, findings: tuple[Finding, ...], journal: Journal, *, every: bool) -> None:
    """Tell of a run on the terminal, what was read and, where it was not watched, what is next."""
    if every:
        show(full_report(findings, journal, run.history, width=width()))
    else:
        show(summary(findings, journal, run.history, run.files, width=width()))
    if run.names:
        rows = {tag: len(run.history.series[tag]) for tag in run.names}
        parts = [
            f"{quantity(tag)} from {name} ({counted(rows[tag], 'row')})"
            for tag, name in run.names.items()
        ]
        read = ", ".join(parts)
        show("\n".join(wrapped(f"{read}; no other signal was logged", width(), label="read      ")))
        if any(finding.severity is not Severity.INFO for finding in findings):
            show("\n".join(wrapped(UNWATCHED, width(), label="next      ")))
