"""Saying what happens as it happens: one line a record, by the logger ``lightning_plateau``."""

from __future__ import annotations

import logging

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.journal import Note, Record
from lightning_plateau.report.console import show, visible
from lightning_plateau.report.phrases import one_line

LOGGER = logging.getLogger("lightning_plateau")


class Announcer:
    """Announces records of the journal at WARNING, and remarks at INFO.

    Where the user has set up no logging for ``lightning_plateau`` and none at the root, lines go
    to standard output; else they go where the user sends them.

    Args:
        quiet: Whether nothing is said at all.

    Attributes:
        enabled: Whether this process speaks; rank zero does.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.enabled = True
        self._quiet = quiet

    def __call__(self, record: Record | Note) -> None:
        """Announce ``record`` in one line."""
        remark = isinstance(record, Finding) and record.severity is Severity.INFO
        self._log(logging.INFO if remark else logging.WARNING, one_line(record))

    def report(self, text: str) -> None:
        """Announce a report of several lines."""
        self._log(logging.WARNING, text)

    def _log(self, level: int, text: str) -> None:
        if self._quiet or not self.enabled:
            return
        if LOGGER.hasHandlers():
            LOGGER.log(level, "%s", visible(text))
        elif level >= logging.WARNING:
            show(text)
