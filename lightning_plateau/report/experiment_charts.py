"""What experiments measured as charts: conditions side by side, in the order of the axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.signal import (
    EXPERIMENT_GRADIENT_FLOW,
    EXPERIMENT_LEARNING_CURVE,
    EXPERIMENT_LEARNING_RATES,
    EXPERIMENT_OVERFIT,
    EXPERIMENT_SHUFFLED_LABELS,
    EXPERIMENT_STEP_SIZE,
    EXPERIMENT_TRAIN_AGAINST_EVAL,
    EXPERIMENT_ZERO_INPUTS,
    Signal,
)
from lightning_plateau.report import outcomes as said
from lightning_plateau.report.curves import drawable
from lightning_plateau.report.phrases import number
from lightning_plateau.report.scale import Scale, scale_of

WIDTH, HEIGHT = 1000.0, 100.0
MOST_LABELS, MOST_LETTERS = 9, 40
CEILING = 5.0
"""How many times as far as the loss falls it may rise before the chart cuts it off."""
Kind = Literal["line", "bars"]
Matrix = NDArray[np.float64]


_SPOKEN = {
    "own": "own optimizer",
    "adam": "Adam",
    "blind": "Adam, inputs zeroed",
    "real": "as they are",
    "swapped": "of other samples",
    "train": "training",
    "eval": "evaluation",
    "true": "true labels",
    "shuffled": "shuffled labels",
    "unseen true": "true, unseen batches",
    "unseen shuffled": "shuffled, unseen batches",
    "unseen before": "before, unseen batches",
}
"""Conditions that read better in other words."""


def _spoken(condition: str) -> str:
    return _SPOKEN.get(condition, condition)


def _percent(share: str) -> str:
    return f"{100 * float(share):g} %"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an experiment asks, and how its answer is drawn."""

    signal: Signal
    title: str
    axis: str
    kind: Kind
    told: Callable[[History], str]
    spoken: Callable[[str], str] = _spoken
    starts: bool = False
    """Whether the first condition is the loss as it was, which the others fall or rise from."""


@dataclass(frozen=True, eq=False)
class Chart:
    """What one experiment measured the last time that it was made.

    Attributes:
        key: Name of the experiment, ``"step-size"``.
        title: What was asked.
        axis: What the conditions are.
        said: What came of it, in words; may be empty.
        kind: Whether the conditions are points of one line or bars of their own.
        conditions: Names of the conditions, ``[n]``.
        values: float64 ``[rows, n]``: a row for each batch that was tried.
        scale: What the axis of values spans.
    """

    key: str
    title: str
    axis: str
    said: str
    kind: Kind
    conditions: tuple[str, ...]
    values: Matrix
    scale: Scale

    @property
    def middle(self) -> Floats:
        """Median over the batches, ``[n]``; NaN where no value was finite."""
        known = np.isfinite(self.values).any(axis=0)
        middle = np.full(len(self.conditions), np.nan)
        middle[known] = np.nanmedian(drawable(self.values[:, known]), axis=0)
        return middle

    @property
    def places(self) -> Floats:
        """Where the conditions lie along the axis, 0 … 1, ``[n]``."""
        return (np.arange(len(self.conditions)) + 0.5) / max(1, len(self.conditions))

    @property
    def paths(self) -> tuple[str, ...]:
        """SVG path of each batch in a box of 1000 × 100, the median last."""
        rows = self.values if len(self.values) > 1 else self.values[:0]
        return tuple(self._path(row) for row in (*rows, self.middle))

    @property
    def dots(self) -> str:
        """SVG path of a dot at each median; none where values lie beyond the chart."""
        heights = self._heights(self.middle)
        shown = np.isfinite(self.middle) & (self.middle <= self.scale.high)
        return "".join(
            f"M{WIDTH * x:.1f} {y:.1f}h0"
            for x, y in zip(self.places[shown], heights[shown], strict=True)
        )

    @property
    def words(self) -> tuple[str, ...]:
        """Each median in words; a value that is not finite is called so, ``[n]``."""
        known = np.isfinite(self.middle).tolist()
        return tuple(
            number(value) if finite else "not finite"
            for value, finite in zip(self.middle.tolist(), known, strict=True)
        )

    @property
    def beyond(self) -> tuple[bool, ...]:
        """Whether each median lies above what the chart shows, or is not finite, ``[n]``."""
        return tuple((~(self.middle <= self.scale.high)).tolist())

    @property
    def shares(self) -> tuple[float, ...]:
        """Height of each median, 0 … 1, ``[n]``; what is not finite stands at the top."""
        return tuple(np.nan_to_num(self.scale.heights(self.middle), nan=1.0).tolist())

    @property
    def zero(self) -> float:
        """Height of zero, 0 … 1: where bars begin."""
        return float(self.scale.heights(np.zeros(1))[0])

    @property
    def labelled(self) -> tuple[int, ...]:
        """Which conditions have their name beside the axis: all, or evenly spaced ones."""
        count = len(self.conditions)
        if count <= MOST_LABELS and sum(map(len, self.conditions)) <= MOST_LETTERS:
            return tuple(range(count))
        return tuple(sorted({0, count // 2, count - 1}))

    @property
    def written(self) -> bool:
        """Whether there is room for each value beside its dot; else there are ticks."""
        seen = [w for w, beyond in zip(self.words, self.beyond, strict=True) if not beyond]
        return len(self.labelled) == len(self.conditions) and max(map(len, seen), default=0) <= 6

    @property
    def text(self) -> str:
        """The chart in a sentence, for who cannot see it."""
        pairs = zip(self.conditions, self.words, strict=True)
        return f"{self.title} {self.axis}: " + ", ".join(f"{name} {value}" for name, value in pairs)

    def _heights(self, values: Floats) -> Floats:
        return HEIGHT * (1 - self.scale.heights(values))

    def _path(self, row: Floats) -> str:
        known = np.isfinite(row)
        # What is not finite is a gap: nothing lies between a number and none.
        joined = np.append(False, known[:-1]) & known
        return "".join(
            f"{'L' if joined[i] else 'M'}{WIDTH * self.places[i]:.1f} {self._heights(row)[i]:.1f}"
            for i in np.flatnonzero(known)
        )


QUESTIONS = (
    Asked(
        EXPERIMENT_ZERO_INPUTS, "Do the inputs count?", "loss with inputs", "bars", said.of_inputs
    ),
    Asked(
        EXPERIMENT_STEP_SIZE,
        "Is a step too long or too short?",
        "loss of its batch after so many times the update",
        "line",
        said.of_step,
        starts=True,
    ),
    Asked(
        EXPERIMENT_OVERFIT,
        "Can one batch be learned by heart?",
        "loss of the batch",
        "bars",
        said.of_batch,
    ),
    Asked(
        EXPERIMENT_SHUFFLED_LABELS,
        "Do the labels say anything of the inputs?",
        "loss after a short training",
        "bars",
        said.of_labels,
    ),
    Asked(
        EXPERIMENT_TRAIN_AGAINST_EVAL,
        "Does evaluation see what training sees?",
        "loss of the same batches in mode",
        "bars",
        said.of_modes,
    ),
    Asked(
        EXPERIMENT_LEARNING_RATES,
        "Which learning rate is best?",
        "loss after a short training, by multiple of yours",
        "line",
        said.of_rates,
        starts=True,
    ),
    Asked(
        EXPERIMENT_LEARNING_CURVE,
        "Would more data help?",
        "loss of unseen batches, by share of the others trained on",
        "line",
        said.of_data,
        spoken=_percent,
    ),
    Asked(
        EXPERIMENT_GRADIENT_FLOW,
        "How does the gradient run through the layers?",
        "root mean square at each output, first layer first",
        "line",
        lambda history: "",
    ),
)


def experiment_charts(history: History) -> tuple[Chart, ...]:
    """Return a chart of every experiment that was made, in the order in which they are made.

    Example:
        >>> from lightning_plateau.testing import history
        >>> losses = {"before": [2.3], "own": [2.2], "adam": [0.1]}
        >>> [chart.key for chart in experiment_charts(history({EXPERIMENT_OVERFIT: losses}))]
        ['overfit-one-batch']
    """
    return tuple(_chart(asked, history) for asked in QUESTIONS if asked.signal in history)


def name_of(signal: Signal) -> str:
    """Return the name of the experiment that records ``signal``."""
    return signal.tag.removeprefix("experiment/").replace("_", "-")


def _chart(asked: Asked, history: History) -> Chart:
    series = history[asked.signal]
    rows = series.values[series.steps == series.steps[-1]]
    # A condition that was left out (no fitting rate was found, no inputs are known) is no result.
    kept = [i for i in range(len(series.labels)) if asked.kind == "line" or _told(rows[:, i])]
    values = rows[:, kept]
    conditions = tuple(series.labels[i] for i in kept)
    return Chart(
        key=name_of(asked.signal),
        title=asked.title,
        axis=asked.axis,
        said=asked.told(history),
        kind=asked.kind,
        conditions=tuple(map(asked.spoken, conditions)),
        values=values,
        scale=_scale(asked, values),
    )


def _told(column: Floats) -> bool:
    return not bool(np.isnan(column).all())


def _scale(asked: Asked, values: Matrix) -> Scale:
    if asked.kind == "bars":
        known = drawable(values)
        known = known[np.isfinite(known)]
        low, high = float(known.min(initial=0.0)), float(known.max(initial=0.0))
        return Scale(low, high if high > low else low + 1.0)
    known = drawable(values)
    start = known[:, 0][np.isfinite(known[:, 0])]
    if not asked.starts or not len(start):
        return scale_of(values)
    base = float(start.max())
    # Ten times the step may raise the loss a millionfold; what matters is where it falls.
    fall = max(base - float(np.nanmin(known)), 0.02 * abs(base))
    return scale_of(np.minimum(known, base + CEILING * fall))
