"""The panels of the report's time axis: losses, gradient norm, update ratio, learning rate.

A panel is plain data and SVG paths in a box of 1000 × 100: the width of the page stretches it, and
a zoom is another view of the same box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.history import Floats, History, Series, Steps
from lightning_plateau.core.layers import weights_by_depth
from lightning_plateau.core.signal import (
    GRADIENT_NORM,
    LEARNING_RATES,
    LOSS,
    LOSS_PER_OPTIMIZER,
    UPDATE_RATIOS,
    VALIDATION_LOSS,
    Signal,
)
from lightning_plateau.report.curves import Curve, curve, drawable
from lightning_plateau.report.phrases import counted, number
from lightning_plateau.report.scale import Scale, Tick, scale_of

WIDTH, HEIGHT = 1000.0, 100.0
MOST_POINTS = 1000
MOST_GAPS = 300
MOST_LINES = 6
MOST_DOTS = 80
NONE = np.empty(0, dtype=np.int64)
TYPICAL_UPDATE = Signal(
    "parameter/typical_update_ratio", "‖Δw‖/‖w‖ of the typical layer", cadence="sampled"
)


@dataclass(frozen=True, eq=False)
class Line:
    """One curve of a panel.

    Attributes:
        name: What it is, for the legend.
        steps: int64 ``[n]``.
        values: What is drawn, ``[n]``; NaN is a gap.
        low: Least value where each point stands for several, ``[n]``; else ``values``.
        high: The greatest.
        path: SVG path of the line.
        band: SVG path around all values, where they were made fewer; else empty.
        dots: SVG path of a dot at each value; else empty.
    """

    name: str
    steps: Steps
    values: Floats
    low: Floats
    high: Floats
    path: str
    band: str = ""
    dots: str = ""


@dataclass(frozen=True, eq=False)
class Panel:
    """One plot on the axis of steps.

    Attributes:
        key: Short name, ``"loss"``.
        title: What is drawn.
        lines: Its curves.
        scale: What its axis of values spans.
        gaps: SVG path of marks where values were NaN or infinite; else empty.
        broken: How many those were.
        text: The plot in a sentence, for who cannot see it.
    """

    key: str
    title: str
    lines: tuple[Line, ...]
    scale: Scale
    gaps: str
    broken: int
    text: str

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Values beside it."""
        return self.scale.ticks

    @property
    def log(self) -> bool:
        """Whether heights are those of logarithms."""
        return self.scale.log


def panels(history: History) -> tuple[Panel, ...]:
    """Return the panels of what was recorded, in the order in which to read them.

    Example:
        >>> from lightning_plateau.testing import history
        >>> [panel.key for panel in panels(history(loss=[2.0, 1.5, 1.0]))]
        ['loss']
    """
    length = max(1, history.step)
    asked = (
        ("loss", "loss", _losses(history)),
        ("gradient", "gradient norm, before clipping", {"gradient norm": history[GRADIENT_NORM]}),
        ("update", "update ratio ‖Δw‖/‖w‖", {"typical layer": typical_update(history)}),
        ("rate", "learning rate", _rates(history)),
    )
    return tuple(
        _panel(key, title, known, length)
        for key, title, series in asked
        if (known := {name: one for name, one in series.items() if len(one)})
    )


def compared_panels(runs: Mapping[str, History]) -> tuple[Panel, ...]:
    """Return the panels of several runs, one line for each run, by its name."""
    length = max([1, *(history.step for history in runs.values())])
    asked: tuple[tuple[str, str, Callable[[History], Series]], ...] = (
        ("compared-loss", "training loss", lambda history: history[LOSS]),
        ("compared-validation", "validation loss", lambda history: history[VALIDATION_LOSS]),
        (
            "compared-gradient",
            "gradient norm, before clipping",
            lambda history: history[GRADIENT_NORM],
        ),
        ("compared-update", "update ratio ‖Δw‖/‖w‖ of the typical layer", typical_update),
    )
    found = (
        (key, title, {name: read(history) for name, history in runs.items()})
        for key, title, read in asked
    )
    return tuple(
        _panel(key, title, known, length)
        for key, title, series in found
        if (known := {name: one for name, one in series.items() if len(one)})
    )


def numbers(panel: Panel, rows: int = 8) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Return some steps of a panel with the value of each line there: the plot as a table."""
    ends = [line.steps for line in panel.lines if len(line.steps)]
    first, last = min(s[0] for s in ends), max(s[-1] for s in ends)
    chosen = np.unique(np.linspace(first, last, rows).round().astype(np.int64))
    return tuple((int(step), tuple(_value(line, step) for line in panel.lines)) for step in chosen)


def place(steps: Steps | int, length: int) -> Floats:
    """Return where steps lie in a box of 1000 that stands for ``length`` steps."""
    return WIDTH * np.asarray(steps, dtype=np.float64) / max(1, length)


def _value(line: Line, step: int) -> str:
    row = int(np.searchsorted(line.steps, step, side="right")) - 1
    return number(float(line.values[row])) if row >= 0 else "–"


def _losses(history: History) -> dict[str, Series]:
    each = history[LOSS_PER_OPTIMIZER]
    if len(each.labels) > 1:
        lines = {f"optimizer {name}": each.column(name) for name in each.labels[:MOST_LINES]}
    else:
        lines = {"training": history[LOSS]}
    return lines | {"validation": history[VALIDATION_LOSS]}


def _rates(history: History) -> dict[str, Series]:
    rates = history[LEARNING_RATES]
    named = {f"group {name}": rates.column(name) for name in rates.labels[:MOST_LINES]}
    return {name: _held(series, history.step) for name, series in named.items()}


def _held(series: Series, end: int) -> Series:
    """A rate holds until the next one is set, the last one to the end of the run."""
    if not len(series) or len(series) > MOST_POINTS:
        return series
    steps = np.repeat(series.steps, 2)
    # Right before the next step the old value holds still.
    steps = np.append(steps[1:], max(end, int(steps[-1])))
    return Series(series.signal, steps, np.repeat(series.values, 2))


def typical_update(history: History) -> Series:
    """Return ‖Δw‖/‖w‖ of the typical layer: the median over weights at each sampled step."""
    ratios, names = history[UPDATE_RATIOS], set(weights_by_depth(history))
    columns = [i for i, name in enumerate(ratios.labels) if name in names or not names]
    if not len(ratios) or not columns:
        return Series(TYPICAL_UPDATE, NONE, np.empty(0))
    values = drawable(ratios.values[:, columns])
    known = np.isfinite(values).any(axis=1)
    typical = np.full(len(values), np.nan)
    typical[known] = np.nanmedian(values[known], axis=1)
    return Series(TYPICAL_UPDATE, ratios.steps, typical)


def _panel(key: str, title: str, series: dict[str, Series], length: int) -> Panel:
    drawn = {name: curve(one, MOST_POINTS) for name, one in series.items()}
    scale = scale_of(*(bound for c in drawn.values() for bound in (c.lowest, c.highest)))
    lines = tuple(_line(name, c, scale, length) for name, c in drawn.items())
    # Validations and samples are made now and then: what is missing there is not broken.
    recorded = [one for one in series.values() if one.signal.cadence in ("step", "event")]
    broken = np.unique(np.concatenate([s.steps[~np.isfinite(s.values)] for s in recorded] + [NONE]))
    gaps = _gaps(broken, length)
    return Panel(key, title, lines, scale, gaps, len(broken), _told(lines))


def _line(name: str, drawn: Curve, scale: Scale, length: int) -> Line:
    x, line = place(drawn.steps, length), drawn.line
    alone = ~np.isfinite(np.append(line[1:], np.nan)) & ~np.isfinite(
        np.insert(line[:-1], 0, np.nan)
    )
    dotted = np.isfinite(line) & (alone if name != "validation" or len(line) > MOST_DOTS else True)
    return Line(
        name,
        drawn.steps,
        line,
        line if drawn.smooth is None else drawn.lowest,
        line if drawn.smooth is None else drawn.highest,
        _path(x, _heights(scale, line)),
        "" if drawn.smooth is None else _band(x, scale, drawn),
        "".join(
            f"M{a:.2f} {b:.1f}h0"
            for a, b in zip(x[dotted], _heights(scale, line)[dotted], strict=True)
        ),
    )


def _heights(scale: Scale, values: Floats) -> Floats:
    return HEIGHT * (1 - scale.heights(values))


def _path(x: Floats, y: Floats) -> str:
    return "".join(
        "M" + "L".join(f"{a:.2f} {b:.1f}" for a, b in zip(x[run], y[run], strict=True))
        for run in _runs(np.isfinite(y))
    )


def _band(x: Floats, scale: Scale, drawn: Curve) -> str:
    low, high = _heights(scale, drawn.lowest), _heights(scale, drawn.highest)
    parts = []
    for run in _runs(np.isfinite(low) & np.isfinite(high)):
        there = zip(x[run], high[run], strict=True)
        back = zip(x[run][::-1], low[run][::-1], strict=True)
        parts.append("M" + "L".join(f"{a:.2f} {b:.1f}" for a, b in (*there, *back)) + "Z")
    return "".join(parts)


def _runs(known: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterator[slice]:
    """Yield the stretches in which every value is known."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        yield slice(int(start), int(end))


def _gaps(steps: Steps, length: int) -> str:
    chosen = steps[:: max(1, -(-len(steps) // MOST_GAPS))]
    return "".join(f"M{x:.2f} 0v7" for x in place(chosen, length))


def _told(lines: Iterable[Line]) -> str:
    """Say what each curve does: its first and last value, the lowest and the highest."""
    parts = []
    for line in lines:
        known = np.flatnonzero(np.isfinite(line.values))
        if not len(known):
            parts.append(f"{line.name}: no finite value")
            continue
        values, steps = line.values[known], line.steps[known]
        low, high = int(values.argmin()), int(values.argmax())
        parts.append(
            f"{line.name}: {number(float(values[0]))} at step {steps[0]}, "
            f"{number(float(values[-1]))} at step {steps[-1]}; "
            f"lowest {number(float(values[low]))} at step {steps[low]}, "
            f"highest {number(float(values[high]))} at step {steps[high]}; "
            f"{counted(len(values), 'point')} drawn"
        )
    return ". ".join(parts)
