"""The user's own loggers: scalars under ``plateau/``, and what else each of them takes.

Findings and actions are logged as text, how layers differ as histograms, the overview as a figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import Floats, History, Series, Steps
from lightning_plateau.core.journal import Entry, Journal
from lightning_plateau.core.signal import (
    ACTIVATION_DEAD,
    GRADIENT_NORM,
    GRADIENT_NORMS,
    LOSS,
    UPDATE_RATIOS,
)
from lightning_plateau.report.known_loggers import PREFIX, known
from lightning_plateau.report.panels import typical_update
from lightning_plateau.report.phrases import one_line
from lightning_plateau.report.plots import overview

SPREADS = {
    "gradient_norm_by_parameter": GRADIENT_NORMS,
    "update_ratio_by_parameter": UPDATE_RATIOS,
}
"""What is logged as a histogram, in powers of ten: parameters differ by many of them."""


class LoggerFeed:
    """Feeds the loggers of one run with what was recorded, found and done.

    Values lie on the host only after a drain, so they are logged then, at the steps at which
    Lightning itself would have logged.

    Args:
        loggers: Loggers of the Trainer.
        every_n_steps: The Trainer's ``log_every_n_steps``; at least 1.
        offset: What to add to our steps to get those of the loggers.

    Raises:
        ValueError: If ``every_n_steps`` is below 1.

    Example:
        >>> class Logger:
        ...     def log_metrics(self, metrics, step):
        ...         print(step, metrics)
        >>> from lightning_plateau.testing import history
        >>> feed = LoggerFeed([Logger()], every_n_steps=2)
        >>> feed.update(history({GRADIENT_NORM: [4.0, 3.0, 2.0, 1.0]}), Journal())
        1 {'plateau/gradient_norm': 3.0, 'plateau/faults': 0.0, 'plateau/interventions': 0.0}
        3 {'plateau/gradient_norm': 1.0, 'plateau/faults': 0.0, 'plateau/interventions': 0.0}
    """

    def __init__(self, loggers: Sequence[Any], every_n_steps: int, offset: int = 0) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, but is {every_n_steps}")
        self._loggers = tuple(loggers)
        self._known = [one for logger in loggers if (one := known(logger)) is not None]
        self._every_n_steps = every_n_steps
        self._offset = offset
        self._next_step = 0
        self._entries = 0
        self._spread_step = -1

    def begin(self, history: History, journal: Journal) -> None:
        """Leave out what an earlier part of a resumed run has logged already."""
        self._next_step, self._entries = _known_until(history), len(journal)

    def update(self, history: History, journal: Journal) -> None:
        """Log what is new since the last time."""
        entries = tuple(journal)
        for step, values in self._rows(history, entries):
            for logger in self._loggers:
                logger.log_metrics(values, step=step)
        for entry in entries[self._entries :]:
            for logger in self._known:
                logger.text(entry.kind, one_line(entry.record), entry.record.step + self._offset)
        if self._known:
            self._log_spreads(history)
        self._entries = len(entries)
        self._next_step = max(self._next_step, _known_until(history))

    def conclude(self, history: History, journal: Journal) -> None:
        """Log the journal as a whole, and the overview as a figure, where a logger takes them."""
        rows = [
            (entry.record.step + self._offset, entry.kind, one_line(entry.record))
            for entry in journal
        ]
        figure = overview(history, journal) if self._known and find_spec("matplotlib") else None
        for logger in self._known:
            logger.conclude(rows, figure, history.step + self._offset)

    def _log_spreads(self, history: History) -> None:
        """Log how the parameters differed where they were measured last."""
        step = max((int(series.steps[-1]) for series in _spreads(history)), default=-1)
        if step <= self._spread_step:
            return
        self._spread_step = step
        values = {name: _powers_of_ten(history[signal]) for name, signal in SPREADS.items()}
        values = {name: found for name, found in values.items() if found.size}
        for logger in self._known:
            logger.histograms(values, step + self._offset)

    def _rows(
        self, history: History, entries: Sequence[Entry]
    ) -> Iterator[tuple[int, dict[str, float]]]:
        end = _known_until(history)
        steps = [
            step
            for step in range(self._next_step, end)
            if (step + self._offset + 1) % self._every_n_steps == 0
        ]
        if not steps:
            return
        curves = _curves(_latest(history, self._next_step))
        faults, actions = _faults(entries), _steps_of(entries, "intervention")
        for step in steps:
            found = {name: _value(series, step) for name, series in curves.items()}
            values = {PREFIX + name: v for name, v in found.items() if v is not None}
            values[PREFIX + "faults"] = float(np.searchsorted(faults, step, side="right"))
            values[PREFIX + "interventions"] = float(np.searchsorted(actions, step, side="right"))
            yield step + self._offset, values


def _latest(history: History, step: int) -> History:
    """Return of what is logged the rows that matter from ``step`` on: the last one before, too.

    A long run is fed many times, and must not be gone through from its beginning each time.
    """
    series = {}
    for signal in (GRADIENT_NORM, UPDATE_RATIOS, ACTIVATION_DEAD):
        found = history[signal]
        row = int(np.searchsorted(found.steps, step, side="right")) - 1
        series[signal.tag] = found.tail(len(found) - max(0, row))
    return replace(history, series=series)


def _curves(history: History) -> dict[str, Series]:
    dead = history[ACTIVATION_DEAD]
    found = {
        "gradient_norm": history[GRADIENT_NORM],
        "update_ratio": typical_update(history),
        "dead_units": _worst(dead),
    }
    return {name: series for name, series in found.items() if len(series)}


def _known_until(history: History) -> int:
    """Return the step after the last one that was read: a block may be on its way."""
    known = (history[GRADIENT_NORM].steps, history[LOSS].steps)
    return max((int(steps[-1]) + 1 for steps in known if len(steps)), default=0)


def _worst(series: Series) -> Series:
    """Return the largest share of any layer at each step."""
    known = np.isfinite(series.values).any(axis=1)
    values: Floats = np.full(len(series), np.nan)
    if known.any():
        values[known] = np.nanmax(series.values[known], axis=1)
    return Series(series.column("").signal, series.steps, values)


def _value(series: Series, step: int) -> float | None:
    """Return the latest value at ``step``, if there is one; what is not finite is one too."""
    row = int(np.searchsorted(series.steps, step, side="right")) - 1
    return float(series.values[row]) if row >= 0 else None


def _faults(entries: Sequence[Entry]) -> Steps:
    """Return the step at which each fault was found first, symptoms of others left out."""
    first: dict[str, int] = {}
    for entry in entries:
        if entry.kind == "finding":
            finding: Any = entry.record
            if finding.severity is not Severity.INFO and not finding.explained_by:
                first.setdefault(finding.code, finding.step)
    return np.sort(np.array(list(first.values()), dtype=np.int64))


def _steps_of(entries: Sequence[Entry], kind: str) -> Steps:
    return np.sort(np.array([e.record.step for e in entries if e.kind == kind], dtype=np.int64))


def _spreads(history: History) -> list[Series]:
    return [history[signal] for signal in SPREADS.values() if len(history[signal])]


def _powers_of_ten(series: Series) -> Floats:
    """Return the decimal logarithms of the last row, of what is finite and above 0."""
    row = series.values[-1] if len(series) else np.empty(0)
    return np.log10(row[np.isfinite(row) & (row > 0.0)])
