"""Layers over steps: gradient norms, dead and saturated units, drift of batch statistics."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.layers import weights_by_depth
from lightning_plateau.core.signal import (
    ACTIVATION_DEAD,
    ACTIVATION_SATURATED,
    GRADIENT_NORMS,
    NORMALIZATION_BATCH_VARIANCE,
    NORMALIZATION_RUNNING_VARIANCE,
)
from lightning_plateau.report.phrases import number

MOST_LAYERS, MOST_BINS = 40, 96
MOST_LABELS, MOST_LETTERS = 12, 14
ROWS_OF_A_BIN = 25
LEVELS = 9
WORTH_SHOWING = 0.01
Kind = Literal["sequential", "diverging"]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A value of each layer over the steps of a run.

    Attributes:
        key: Short name, ``"gradients"``.
        title: What a colour stands for.
        question: What to look for.
        kind: Whether colours go from little to much, or from below to above a neutral middle.
        layers: Names of the rows, the first layer on top.
        omitted: Rows that were left out between those shown.
        paths: SVG path of the cells of each level in a box of 1000 × ``len(layers)``; level
            ``"zero"`` is exactly zero, ``"broken"`` NaN or infinite.
        legend: What the lowest, the middle and the highest level stand for.
        values: First, middle and last value of each row, in words.
        cells: ``[len(layers), bins]``: the values; NaN where nothing was recorded.
        edges: Where each bin begins, and the last one ends, as shares of the run.
    """

    key: str
    title: str
    question: str
    kind: Kind
    layers: tuple[str, ...]
    omitted: int
    paths: dict[str, str]
    legend: tuple[str, str, str]
    values: tuple[tuple[str, str, str], ...]
    cells: Matrix
    edges: Floats

    @property
    def labelled(self) -> tuple[tuple[str, float], ...]:
        """The rows that have their name beside them, and how far down each lies, 0 … 1.

        All of a few; of many the first and the last. What all names have in common is left out:
        there is little room, and it is what differs that tells rows apart.
        """
        count = len(self.layers)
        chosen = range(count) if count <= MOST_LABELS else (0, count - 1)
        names = _apart(self.layers)
        return tuple((names[row], (row + 0.5) / count) for row in chosen)


@dataclass(frozen=True, eq=False)
class Binned:
    """Values over stretches of a run: ``[layers, bins]``, and ``[bins + 1]`` edges as shares."""

    cells: Matrix
    edges: Floats


def heat_maps(history: History) -> tuple[HeatMap, ...]:
    """Return the heat maps that show something: all-zero shares of dead units are left out.

    Example:
        >>> heat_maps(History())
        ()
    """
    dead, saturated = history[ACTIVATION_DEAD], history[ACTIVATION_SATURATED]
    found = (
        _gradients(history),
        _share(history, dead, "dead", "a strong row is a layer that passes nothing on"),
        _share(history, saturated, "saturated", "a strong row lets no gradient through"),
        _drift(history),
    )
    return tuple(one for one in found if one is not None)


def _gradients(history: History) -> HeatMap | None:
    norms = history[GRADIENT_NORMS]
    names = [name for name in weights_by_depth(history) if name in norms.labels] or norms.labels
    binned = _binned(norms, tuple(names), history.step)
    if binned is None:
        return None
    cells = binned.cells
    positive = cells[np.isfinite(cells) & (cells > 0)]
    low, high = _range(np.log10(positive)) if len(positive) else (0.0, 1.0)
    with np.errstate(all="ignore"):
        shares = (np.log10(cells) - low) / (high - low)
    return _map(
        ("gradients", "gradient norm of each weight"),
        "rows that fade towards the first layers vanish; rows that darken explode",
        "sequential",
        tuple(names),
        binned,
        shares,
        (f"{10.0**low:.1g}", "", f"{10.0**high:.1g}"),
    )


def _share(history: History, series: Series, key: str, question: str) -> HeatMap | None:
    known = np.isfinite(series.values).sum(axis=0)
    names = tuple(n for n, rows in zip(series.labels, known, strict=True) if rows)
    binned = _binned(series, names, history.step)
    if binned is None or not (np.nan_to_num(binned.cells) > WORTH_SHOWING).any():
        return None
    title, legend = f"share of {key} units", ("0 %", "50 %", "100 %")
    return _map((key, title), question, "sequential", names, binned, binned.cells, legend)


def _drift(history: History) -> HeatMap | None:
    batch, running = history[NORMALIZATION_BATCH_VARIANCE], history[NORMALIZATION_RUNNING_VARIANCE]
    names = tuple(name for name in batch.labels if name in running.labels)
    ours = _binned(batch, names, history.step)
    theirs = _binned(running, names, history.step)
    if ours is None or theirs is None or ours.cells.shape != theirs.cells.shape:
        return None
    with np.errstate(all="ignore"):
        ratio = Binned(ours.cells / theirs.cells, ours.edges)
        shares = 0.5 + np.log10(ratio.cells) / 2
    return _map(
        ("drift", "batch-norm drift: batch / running variance"),
        "neutral: evaluation sees what training saw; coloured: it does not",
        "diverging",
        names,
        ratio,
        shares,
        ("0.1", "1", "10"),
    )


def _range(logs: Floats) -> tuple[float, float]:
    low, high = np.quantile(logs, [0.01, 0.99])
    middle = (low + high) / 2
    # Two decades at least: what differs by less should not look like night and day.
    half = max(1.0, (high - low) / 2)
    return float(middle - half), float(middle + half)


def _binned(series: Series, names: tuple[str, ...], length: int) -> Binned | None:
    """Return the median of each column over each of at most 96 stretches of rows."""
    if not len(series) or not names:
        return None
    columns = np.array([series.labels.index(name) for name in _spread(names)])
    starts = np.unique(np.linspace(0, len(series), MOST_BINS + 1).astype(int)[:-1])
    cells = np.full((len(columns), len(starts)), np.nan)
    for place, (start, end) in enumerate(pairwise([*starts.tolist(), len(series)])):
        rows = np.unique(np.linspace(start, end - 1, ROWS_OF_A_BIN).astype(int))
        cells[:, place] = _medians(series.values[np.ix_(rows, columns)])
    # What was measured holds until it is measured again.
    edges = np.append(series.steps[starts], max(length, int(series.steps[-1]) + 1))
    return Binned(cells, edges.astype(np.float64) / max(1, length))


def _medians(values: Matrix) -> Floats:
    """Return the median of each column over what is known; infinite where most of it is."""
    known = ~np.isnan(values).all(axis=0)
    medians = np.full(values.shape[1], np.nan)
    with np.errstate(all="ignore"):
        medians[known] = np.nanmedian(values[:, known], axis=0)
    return medians


def _apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return dotted names without the parts with which all of them end, and long ones begin.

    Example:
        >>> _apart(("net.0.weight", "net.2.weight"))
        ('net.0', 'net.2')
        >>> _apart(("encoder.layers.0.mlp.weight", "encoder.layers.1.mlp.weight"))
        ('0', '1')
        >>> _apart(("net.1 (relu)", "net.3 (relu)")), _apart(("net.1 (relu)", "net.3 (tanh)"))
        (('net.1', 'net.3'), ('net.1 (relu)', 'net.3 (tanh)'))
    """
    if len({name.partition(" ")[2] for name in names}) == 1 < len(names):
        names = tuple(name.partition(" ")[0] for name in names)
    split = [name.split(".") for name in names]
    spare = min((len(parts) for parts in split), default=1) - 1 if len(names) > 1 else 0
    last = _shared([parts[::-1] for parts in split], spare)
    kept = [parts[: len(parts) - last] for parts in split]
    long = max(map(len, map(".".join, kept)), default=0) > MOST_LETTERS
    first = _shared(kept, spare - last) if long else 0
    return tuple(".".join(parts[first:]) for parts in kept)


def _shared(split: list[list[str]], most: int) -> int:
    """Return with how many parts, at most ``most``, all lists begin."""
    together = [len(set(parts)) == 1 for parts in zip(*split, strict=False)][: max(0, most)]
    return together.index(False) if False in together else len(together)


def _spread(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return at most 40 names, evenly spaced, the first and the last among them."""
    if len(names) <= MOST_LAYERS:
        return names
    chosen = np.linspace(0, len(names) - 1, MOST_LAYERS).round().astype(int)
    return tuple(names[i] for i in chosen)


def _map(
    names: tuple[str, str],
    question: str,
    kind: Kind,
    layers: tuple[str, ...],
    binned: Binned,
    shares: Matrix,
    legend: tuple[str, str, str],
) -> HeatMap:
    cells, shown = binned.cells, _spread(layers)
    chosen = (0, cells.shape[1] // 2, -1)
    told = [[number(float(row[place])) for place in chosen] for row in cells]
    return HeatMap(
        *names,
        question,
        kind,
        shown,
        len(layers) - len(shown),
        _paths(_levels(cells, shares), binned.edges),
        legend,
        tuple((first, middle, last) for first, middle, last in told),
        cells,
        binned.edges,
    )


def _levels(cells: Matrix, shares: Matrix) -> list[list[str]]:
    """Return the level of each cell; empty where nothing was recorded."""

    def level(value: float, share: float) -> str:
        if np.isnan(value):
            return ""
        if np.isinf(value) or np.isnan(share):
            return "broken"
        if np.isneginf(share):
            return "zero"
        return str(int(np.clip(share * LEVELS, 0, LEVELS - 1)))

    return [
        [level(v, s) for v, s in zip(*row, strict=True)] for row in zip(cells, shares, strict=True)
    ]


def _paths(levels: list[list[str]], edges: Floats) -> dict[str, str]:
    """Return one path for each level: a rectangle for each stretch of equal cells."""
    paths: dict[str, list[str]] = {}
    for y, row in enumerate(levels):
        place = 0
        for level, stretch in groupby(row):
            start, place = place, place + len(list(stretch))
            if level:
                left, right = 1000 * edges[start], 1000 * edges[place]
                box = f"M{left:.2f} {y}H{right:.2f}v1H{left:.2f}z"
                paths.setdefault(level, []).append(box)
    return {level: "".join(boxes) for level, boxes in sorted(paths.items())}
