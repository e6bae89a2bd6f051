"""Saying what happens as it happens: one line a record, by the logger ``lightning_plateau``."""

from __future__ import annotations

import logging
from collections import Counter

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.journal import Note, Record
from lightning_plateau.core.remedy import Intervention
from lightning_plateau.report.console import show, visible
from lightning_plateau.report.phrases import one_line

LOGGER = logging.getLogger("lightning_plateau")
OFTEN = 4
"""Time from which on the same remedy for the same fault is told at each doubling alone."""


class Announcer:
    """Announces records of the journal at WARNING, and remarks at INFO.

    What is done again and again, as the steps of damaged batches are skipped, is told a few times,
    and then each time that it was done twice as often; the journal holds all of it.

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
        self._times: Counter[tuple[str, str]] = Counter()

    def __call__(self, record: Record | Note) -> None:
        """Announce ``record`` in one line."""
        remark = isinstance(record, Finding) and record.severity is Severity.INFO
        times = self._count(record)
        if times >= OFTEN and times & (times - 1):
            return
        often = f" (time {times}; told again at time {2 * times})" if times >= OFTEN else ""
        self._log(logging.INFO if remark else logging.WARNING, one_line(record) + often)

    def _count(self, record: Record | Note) -> int:
        """Return how often the same was done, this time included; 0 for what is not done."""
        if not isinstance(record, Intervention):
            return 0
        self._times[record.remedy, record.code] += 1
        return self._times[record.remedy, record.code]

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
