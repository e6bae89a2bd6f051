"""Reading a run that never had the plugin, from what its logger wrote.

Loss, validation loss, learning rates and gradient norm are recognized by the names that people and
Lightning give them; everything else becomes a metric.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_plateau.core.history import History, Series
from lightning_plateau.core.signal import (
    GRADIENT_NORM,
    LEARNING_RATES,
    LOSS,
    VALIDATION_LOSS,
    Signal,
    metric,
)
from lightning_plateau.report.event_file import Points, read_events

METRICS_FILE = "metrics.csv"
EVENT_FILES = "events.out.tfevents.*"
NAMES: Mapping[Signal, tuple[str, ...]] = {
    LOSS: (
        r"(train|training)_loss_step",
        r"(train|training)_loss",
        r"loss_step",
        r"loss",
        r"(train|training)_\w*loss(_step)?",
        r"(train|training)_loss_epoch",
    ),
    VALIDATION_LOSS: (
        r"(val|valid|validation|dev|eval)_loss(_epoch)?",
        r"(val|valid|validation|dev|eval)_\w*loss(_epoch)?",
    ),
    GRADIENT_NORM: (
        r"plateau_gradient_norm",
        r"(global_|total_)?grad(ient)?s?_norm(_total)?(_step)?",
        r"(train_)?grad_2_0_norm_total(_step)?",
    ),
}
"""How each signal is called in the logs of people, the surest name first."""
RATE = r"(lr|learning_rate)(_\w+)?"
COUNTERS = frozenset(["step", "epoch", "time", "global_step"])


@dataclass(frozen=True)
class LoggedRun:
    """What could be read of a run.

    Attributes:
        history: The recognized signals, and the rest as metrics.
        names: By the tag of each recognized signal, what it was called.
        files: The files that were read.
    """

    history: History
    names: Mapping[str, str]
    files: tuple[Path, ...]


def logged_files(path: Path) -> tuple[Path, ...]:
    """Return the logger's files that ``path`` is or holds; empty where there are none."""
    if path.is_file():
        return (path,) if path.suffix == ".csv" or "tfevents" in path.name else ()
    if (path / METRICS_FILE).is_file():
        return (path / METRICS_FILE,)
    return tuple(sorted(path.glob(EVENT_FILES)))


def read_logged(files: Sequence[Path]) -> LoggedRun:
    """Read a run from ``metrics.csv`` or from event files of TensorBoard.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or no loss is in it.
    """
    points: Points = {}
    for file in files:
        found = _csv_points(file) if file.suffix == ".csv" else read_events(file)
        for name, values in found.items():
            points.setdefault(name, []).extend(values)
    names = {signal: name for signal in NAMES if (name := _called(signal, points))}
    if LOSS not in names and VALIDATION_LOSS not in names:
        raise ValueError(
            f"expected a loss in {files[0]}, called train_loss, loss or val_loss, but received "
            f"{', '.join(sorted(points)) or 'nothing'}"
        )
    called = {signal.tag: name for signal, name in names.items()}
    if rates := _rates_in(points):
        called[LEARNING_RATES.tag] = ", ".join(rates)
    return LoggedRun(_history(points, names), called, tuple(files))


def _csv_points(path: Path) -> Points:
    points: Points = {}
    with path.open(newline="", encoding="utf-8") as file:
        try:
            rows = list(csv.DictReader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"expected the {METRICS_FILE} of CSVLogger at {path}, but {error}"
            ) from error
    if rows and "step" not in rows[0]:
        raise ValueError(
            f"expected a column step in {path}, as CSVLogger writes it, but received "
            f"{', '.join(map(str, rows[0]))}"
        )
    for number, row in enumerate(rows, start=2):
        try:
            step = int(float(row["step"]))
        except (TypeError, ValueError) as error:
            raise ValueError(f"line {number} of {path} has no step: {error}") from error
        for name, text in row.items():
            value = _number(text)
            if value is not None:
                points.setdefault(str(name), []).append((step, value))
    return points


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _called(signal: Signal, points: Points) -> str:
    for pattern in NAMES[signal]:
        for name in points:
            if re.fullmatch(pattern, _plain(name)):
                return name
    return ""


def _history(points: Points, names: Mapping[Signal, str]) -> History:
    series = [_series(signal, points[name]) for signal, name in names.items()]
    rates = _rates_in(points)
    if rates:
        series.append(_rates(rates))
    known = {*names.values(), *rates}
    others = [n for n in points if n not in known and _plain(n) not in COUNTERS]
    series += [_series(metric(name), points[name]) for name in others]
    last = max((step for values in points.values() for step, _ in values), default=-1)
    return History(
        series={one.signal.tag: one for one in series},
        step=last + 1,
        epoch_ends=_epoch_ends(points.get("epoch", [])),
    )


def _rates_in(points: Points) -> Points:
    return {name: values for name, values in points.items() if re.fullmatch(RATE, _plain(name))}


def _series(signal: Signal, values: Sequence[tuple[int, float]]) -> Series:
    latest = dict(values)  # of two values of one step the later one stands
    steps = sorted(latest)
    return Series(signal, np.array(steps, dtype=np.int64), np.array([latest[s] for s in steps]))


def _rates(rates: Mapping[str, Sequence[tuple[int, float]]]) -> Series:
    columns = {name: dict(values) for name, values in rates.items()}
    steps = sorted({step for values in columns.values() for step in values})
    rows = [[values.get(step, np.nan) for values in columns.values()] for step in steps]
    return Series(LEARNING_RATES, np.array(steps), np.array(rows), tuple(columns))


def _epoch_ends(epochs: Sequence[tuple[int, float]]) -> tuple[int, ...]:
    """Return the steps after the last one of each epoch but the one under way."""
    last: dict[float, int] = {}
    for step, epoch in epochs:
        last[epoch] = max(step, last.get(epoch, -1))
    return tuple(sorted({step + 1 for epoch, step in last.items() if epoch != max(last)}))
