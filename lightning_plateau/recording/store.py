"""The host's copy of the series while they grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_plateau.core.history import Series
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.signal import Signal

LARGEST = 1 << 20
"""Values of one signal that are kept; beyond it the older half is thinned."""
FEWEST_ROWS = 256
"""Rows that are kept however wide they are."""


class Column:
    """The growing rows of one signal.

    Rows are appended in place, and a series taken earlier never changes: it is a view of rows that
    are not written again. When the signal holds more than 2**20 values, every second row of its
    older half is dropped; values of a scalar signal that are not finite are always kept.
    """

    def __init__(self, signal: Signal, labels: Sequence[str] = ()) -> None:
        self.signal = signal
        self.labels = tuple(labels)
        self.rows = 0
        self._steps = np.empty(64, dtype=np.int64)
        self._values = self._empty(64)
        self._series: Series | None = None

    def _empty(self, rows: int) -> NDArray[np.float64]:
        shape = (rows, len(self.labels)) if self.signal.axis else (rows,)
        return np.full(shape, np.nan)

    def append(self, steps: NDArray[Any], values: NDArray[Any]) -> None:
        """Add rows: ``steps`` ``[n]``, ``values`` ``[n]`` or ``[n, len(labels)]``."""
        self._series = None
        if self.rows + len(steps) > len(self._steps):
            self._grow(len(steps))
        end = self.rows + len(steps)
        self._steps[self.rows : end] = steps
        self._values[self.rows : end] = values
        self.rows = end

    def _grow(self, more: int) -> None:
        """Make room for ``more`` rows, thinning the older half where the signal is full."""
        steps, values = self._steps[: self.rows], self._values[: self.rows]
        most = max(LARGEST // max(1, len(self.labels)), FEWEST_ROWS)
        if self.rows + more > most:
            keep = np.ones(self.rows, dtype=bool)
            keep[1 : self.rows // 2 : 2] = False
            if not self.signal.axis:
                keep |= ~np.isfinite(values)
            steps, values = steps[keep], values[keep]
            self.rows = len(steps)
        # What cannot be thinned further (all NaN) still grows in proportion, not row by row.
        capacity = max(self.rows + more, min(2 * self.rows, most), 5 * self.rows // 4, 64)
        self._steps = np.empty(capacity, dtype=np.int64)
        self._values = self._empty(capacity)
        self._steps[: self.rows] = steps
        self._values[: self.rows] = values

    def widen(self, labels: Sequence[str]) -> None:
        """Add columns for labels that were not known before; earlier rows hold NaN there."""
        new = [label for label in labels if label not in self.labels]
        if not new:
            return
        self._series = None
        self.labels = (*self.labels, *new)
        values = self._empty(len(self._steps))
        values[:, : self._values.shape[1]] = self._values
        self._values = values

    def series(self) -> Series:
        """Return the rows so far: of the same rows, the same object, and what it has derived."""
        if self._series is None:
            rows = slice(0, self.rows)
            self._series = Series(self.signal, self._steps[rows], self._values[rows], self.labels)
        return self._series


class Store:
    """The series of a run by tag."""

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}

    def append(
        self, signal: Signal, steps: NDArray[Any], values: NDArray[Any], labels: Sequence[str] = ()
    ) -> None:
        """Add rows of one signal; the labels may differ from those of earlier rows."""
        column = self._columns.get(signal.tag)
        if column is None:
            column = self._columns[signal.tag] = Column(signal, labels)
        if column.labels != tuple(labels):
            column.widen(labels)
            table = np.full((len(steps), len(column.labels)), np.nan)
            table[:, [column.labels.index(label) for label in labels]] = values
            values = table
        column.append(steps, values)

    def append_row(self, signal: Signal, step: int, values: Mapping[str, float] | float) -> None:
        """Add one row at ``step``: a number, or numbers by label."""
        if isinstance(values, Mapping):
            self.append(signal, np.array([step]), np.array([list(values.values())]), tuple(values))
        else:
            self.append(signal, np.array([step]), np.array([values]))

    def series(self) -> dict[str, Series]:
        """Return every series so far, by tag."""
        return {tag: column.series() for tag, column in self._columns.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the rows in plain types and tensors."""
        return {
            tag: {
                "signal": to_plain(column.signal),
                "labels": list(column.labels),
                "steps": torch.from_numpy(column.series().steps.copy()),
                "values": torch.from_numpy(column.series().values.copy()),
            }
            for tag, column in self._columns.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace all rows by those of ``state``."""
        self._columns = {}
        for entry in state.values():
            signal = from_plain(Signal, entry["signal"])
            steps, values = entry["steps"].numpy(), entry["values"].numpy()
            self.append(signal, steps, values, tuple(entry["labels"]))
