"""The user's own loggers: scalars under ``plateau/``, findings and actions as text, one figure.

Loggers are told apart by the names of their classes, so that nothing is imported for the sake of
one that is not used. Every logger of Lightning takes scalars; what else it takes is known of
TensorBoard, Weights & Biases and MLflow, and any other is given scalars alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import Floats, History, Series, Steps
from lightning_plateau.core.journal import Entry, Journal
from lightning_plateau.core.signal import ACTIVATION_DEAD, GRADIENT_NORM, LOSS, UPDATE_RATIOS
from lightning_plateau.report.panels import typical_update
from lightning_plateau.report.phrases import one_line
from lightning_plateau.report.plots import overview

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREFIX = "plateau/"
COLUMNS = ("step", "kind", "text")


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
        self._every_n_steps = every_n_steps
        self._offset = offset
        self._next_step = 0
        self._entries = 0

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
            for logger in self._loggers:
                self._text(logger, entry)
        self._entries = len(entries)
        self._next_step = max(self._next_step, _known_until(history))

    def conclude(self, history: History, journal: Journal) -> None:
        """Log the journal as a whole, and the overview as a figure, where a logger takes them."""
        rows = [
            (entry.record.step + self._offset, entry.kind, one_line(entry.record))
            for entry in journal
        ]
        takers = [(logger, _TAKERS[kind]) for logger in self._loggers if (kind := kind_of(logger))]
        figure = overview(history, journal) if takers and find_spec("matplotlib") else None
        for logger, take in takers:
            take(logger, rows, figure, history.step + self._offset)

    def _text(self, logger: Any, entry: Entry) -> None:
        if kind_of(logger) == "TensorBoardLogger":
            step = entry.record.step + self._offset
            logger.experiment.add_text(PREFIX + entry.kind, one_line(entry.record), step)

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


def kind_of(logger: Any) -> str:
    """Return the name of the known logger that ``logger`` is or descends from; else empty."""
    names = (cls.__name__ for cls in type(logger).__mro__)
    return next((name for name in names if name in _TAKERS), "")


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


Rows = Sequence[tuple[int, str, str]]


def _tensorboard(logger: Any, rows: Rows, figure: Figure | None, step: int) -> None:
    # The texts are there already, each at its step.
    if figure is not None:
        logger.experiment.add_figure(PREFIX + "overview", figure, step, close=False)


def _wandb(logger: Any, rows: Rows, figure: Figure | None, step: int) -> None:
    if rows:
        logger.log_table(PREFIX + "journal", columns=list(COLUMNS), data=[list(r) for r in rows])
    if figure is not None:
        logger.log_image(PREFIX + "overview", [figure])


def _mlflow(logger: Any, rows: Rows, figure: Figure | None, step: int) -> None:
    client, run = logger.experiment, logger.run_id
    if rows:
        text = "".join(f"{kind}: {line}\n" for _, kind, line in rows)
        client.log_text(run, text, PREFIX + "journal.txt")
    if figure is not None:
        client.log_figure(run, figure, PREFIX + "overview.png")


_TAKERS: Mapping[str, Callable[[Any, Rows, Any, int], None]] = {
    "TensorBoardLogger": _tensorboard,
    "WandbLogger": _wandb,
    "MLFlowLogger": _mlflow,
}
