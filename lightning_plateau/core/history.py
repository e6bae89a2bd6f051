"""History: what was recorded of a training, immutable."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lightning_plateau.core.derived import Derivable, derived
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import Signal
from lightning_plateau.core.tape import Tape

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]
FORMAT = 1


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True, eq=False)
class Series(Derivable):
    """The values of one signal over the steps of a run.

    Attributes:
        signal: Which signal.
        steps: int64 ``[n]``, ascending: the optimizer step of each row, counted from 0.
        values: float64 ``[n]`` for a scalar signal, ``[n, len(labels)]`` otherwise. NaN where a
            value was not recorded; a recorded NaN is NaN too.
        labels: Names of the columns; empty for a scalar signal.

    Raises:
        ValueError: If the shapes do not agree.

    Example:
        >>> loss = Series(Signal("loss/train", ""), np.array([0, 1, 2]), np.array([3.0, 2.0, 1.0]))
        >>> loss.last, len(loss.since(1))
        (1.0, 2)
    """

    signal: Signal
    steps: Steps
    values: Floats
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        steps = np.asarray(self.steps, dtype=np.int64)
        values = np.asarray(self.values, dtype=np.float64)
        expected = (len(steps), len(self.labels)) if self.signal.axis else (len(steps),)
        if values.shape != expected:
            raise ValueError(
                f"values of {self.signal.tag} must have shape {expected} "
                f"({len(steps)} steps, {len(self.labels)} labels), but have {values.shape}"
            )
        object.__setattr__(self, "steps", _read_only(steps))
        object.__setattr__(self, "values", _read_only(values))

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float:
        """Last value of a scalar signal; NaN when nothing was recorded."""
        return float(self.values[-1]) if len(self.values) else float("nan")

    @property
    def last_row(self) -> Floats:
        """Last row of a signal with columns, ``[len(labels)]``; all NaN where there is none."""
        return self.values[-1] if len(self.values) else np.full(len(self.labels), np.nan)

    @property
    @derived
    def finite(self) -> Series:
        """The rows in which every value is finite."""
        good = np.isfinite(self.values)
        if good.all():
            return self
        return self._rows(good.all(axis=1) if good.ndim == 2 else good)

    def since(self, step: int) -> Series:
        """Return the rows at ``step`` and later: of the same rows, the same object.

        Several rules ask for the loss since its warm-up, and what they derive of it is kept.
        """
        first = int(self.steps.searchsorted(step, side="left"))
        if first == 0:
            return self
        known = _known_ends(self)
        if first not in known:
            known[first] = self._rows(slice(first, None))
        return known[first]

    def until(self, step: int) -> Series:
        """Return the rows before ``step``."""
        return self._rows(slice(0, int(self.steps.searchsorted(step, side="left"))))

    def tail(self, rows: int) -> Series:
        """Return the last ``rows`` rows."""
        return self._rows(slice(max(0, len(self.steps) - rows), None))

    def where(self, rows: NDArray[np.bool_]) -> Series:
        """Return the rows for which ``rows``, ``[n]``, is true."""
        return self._rows(rows)

    def column(self, label: str) -> Series:
        """Return the column ``label`` as a scalar series; empty where there is no such column."""
        known = _known_columns(self)
        if label not in known:
            known[label] = self._column(label)
        return known[label]

    def _column(self, label: str) -> Series:
        place = self.places.get(label)
        signal = _without_axis(self)
        if place is None:
            return Series(signal, self.steps[:0], np.empty(0))
        return self._part(signal, self.steps, self.values[:, place], ())

    @property
    @derived
    def places(self) -> Mapping[str, int]:
        """The position of each column by its label."""
        return _places(self.labels)

    def _rows(self, rows: Any) -> Series:
        return self._part(self.signal, self.steps[rows], self.values[rows], self.labels)

    @staticmethod
    def _part(signal: Signal, steps: Steps, values: Floats, labels: tuple[str, ...]) -> Series:
        """Return a part of a series; types and shapes were checked when the whole was made."""
        part = object.__new__(Series)
        for array in (steps, values):
            array.flags.writeable = False
        object.__setattr__(part, "signal", signal)
        object.__setattr__(part, "steps", steps)
        object.__setattr__(part, "values", values)
        object.__setattr__(part, "labels", labels)
        return part


@lru_cache(maxsize=64)
def _places(labels: tuple[str, ...]) -> Mapping[str, int]:
    """Return the position of each label, of equal ones the first; a run has the same few again."""
    return {label: place for place, label in reversed([*enumerate(labels)])}


@derived
def _known_columns(series: Series) -> dict[str, Series]:
    """Return where a series keeps its columns, once it was asked."""
    return {}


@derived
def _known_ends(series: Series) -> dict[int, Series]:
    """Return where a series keeps its ends, by their first row, once it was asked."""
    return {}


@derived
def _without_axis(series: Series) -> Signal:
    return replace(series.signal, axis="")


@dataclass(frozen=True, eq=False)
class History(Derivable):
    """What was recorded of a training: series, profile and tapes. Immutable.

    A signal that was not recorded reads as an empty series, so that rules need no case for it.

    Attributes:
        series: Series by the tag of their signal.
        profile: Facts that do not change from step to step.
        tapes: The first tape and the latest ones, in order of their steps.
        step: Number of optimizer steps made.
        epoch_ends: Steps at which epochs ended, ascending.
        finished: Whether the training has ended as planned.

    Example:
        >>> history = History()
        >>> len(history[Signal("loss/train", "")])
        0
    """

    series: Mapping[str, Series] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    tapes: tuple[Tape, ...] = ()
    step: int = 0
    epoch_ends: tuple[int, ...] = ()
    finished: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "series", MappingProxyType(dict(self.series)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes are started with a copy of the callback; a read-only view has none.
        facts = self.profile, self.tapes, self.step, self.epoch_ends, self.finished
        return History, (dict(self.series), *facts)

    def __getitem__(self, signal: Signal) -> Series:
        found = self.series.get(signal.tag)
        if found is not None:
            return found
        shape = (0, 0) if signal.axis else (0,)
        return Series(signal, np.empty(0, dtype=np.int64), np.empty(shape))

    def __contains__(self, signal: Signal) -> bool:
        return signal.tag in self.series and len(self.series[signal.tag]) > 0

    def __iter__(self) -> Iterator[Signal]:
        return (series.signal for series in self.series.values())

    def __len__(self) -> int:
        return len(self.series)

    @property
    def first_tape(self) -> Tape | None:
        """The first tape, or None where none was taken."""
        return self.tapes[0] if self.tapes else None

    @property
    def last_tape(self) -> Tape | None:
        """The latest tape, or None where none was taken."""
        return self.tapes[-1] if self.tapes else None

    def since(self, step: int) -> History:
        """Return the history from ``step`` on, as if the run had begun there.

        The latest tape stays, however old: what it tells of the wiring still holds.
        """
        later = tuple(tape for tape in self.tapes if tape.step >= step)
        return replace(
            self,
            series={tag: series.since(step) for tag, series in self.series.items()},
            tapes=later or self.tapes[-1:],
            epoch_ends=tuple(end for end in self.epoch_ends if end > step),
        )

    def without(self, steps: Collection[int]) -> History:
        """Return the history as if ``steps`` had never been made: their rows are left out."""
        if not steps:
            return self
        left_out = np.fromiter(steps, dtype=np.int64)
        return replace(
            self,
            series={
                tag: series.where(~np.isin(series.steps, left_out))
                for tag, series in self.series.items()
            },
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one ``.npz`` file, whole or not at all, and return its path."""
        path = Path(path)
        meta = {
            "format": FORMAT,
            "step": self.step,
            "epoch_ends": self.epoch_ends,
            "finished": self.finished,
            "profile": to_plain(self.profile),
            "tapes": to_plain(self.tapes),
            "series": [
                {"signal": to_plain(series.signal), "labels": series.labels}
                for series in self.series.values()
            ],
        }
        arrays: dict[str, NDArray[Any]] = {
            "meta": np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
        }
        for index, series in enumerate(self.series.values()):
            arrays[f"steps_{index}"] = series.steps
            arrays[f"values_{index}"] = series.values
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        partial.replace(path)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> History:
        """Read a history that ``save`` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no history, or is of a newer format.
        """
        try:
            # Opened here, because numpy leaves a file open that turns out to be no archive.
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                meta = json.loads(arrays["meta"].tobytes())
                numbered = [
                    (arrays[f"steps_{i}"], arrays[f"values_{i}"])
                    for i in range(len(meta["series"]))
                ]
        except (KeyError, EOFError, OSError, ValueError, BadZipFile, zlib.error) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(
                f"expected a history written by lightning_plateau at {path}, but {error}"
            ) from error
        if meta["format"] > FORMAT:
            raise ValueError(
                f"{path} is of format {meta['format']}; this version reads up to {FORMAT}: upgrade"
            )
        series = {}
        for entry, (steps, values) in zip(meta["series"], numbered, strict=True):
            signal = from_plain(Signal, entry["signal"])
            series[signal.tag] = Series(signal, steps, values, tuple(entry["labels"]))
        return cls(
            series=series,
            profile=from_plain(Profile, meta["profile"]),
            tapes=from_plain(tuple[Tape, ...], meta["tapes"]),
            step=meta["step"],
            epoch_ends=tuple(meta["epoch_ends"]),
            finished=meta["finished"],
        )
