"""How far the updates move the weights, relative to the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.signal import GRADIENT_NORMS, PARAMETER_NORMS, UPDATE_RATIOS
from lightning_plateau.core.statistics import finite, row_medians

ADAPTIVE = frozenset(
    [
        "Adam",
        "AdamW",
        "Adamax",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Adagrad",
        "Adadelta",
        "Rprop",
        "Adafactor",
        "SparseAdam",
        "Lion",
    ]
)
"""Optimizers whose steps do not grow with the gradient."""


@dataclass(frozen=True, slots=True)
class Updates:
    """Updates of the weights (parameters of two dimensions and more), typical over layers.

    Attributes:
        rows: Sampled steps.
        by_step: Step and per-step median of ‖Δw‖/‖w‖, the weights as they were at the start.
        typical: Median of the per-step medians of ‖Δw‖/‖w‖ after the first step.
        growth: By what factor the weights grew at most, in the median over layers.
        gradient: ‖g‖/‖w‖ at the first sampled step, median over layers.
        disparity: Largest over smallest ‖g‖/‖w‖ of a layer at that step.
    """

    rows: int
    by_step: tuple[tuple[int, float], ...]
    typical: float
    growth: float
    gradient: float
    disparity: float

    @property
    def peak(self) -> float:
        """Largest of the per-step medians."""
        return max(size for _, size in self.by_step)

    def first_beyond(self, limit: float) -> tuple[int, float]:
        """Return step and size of the first update of at least ``limit``, else of the largest."""
        large = (update for update in self.by_step if update[1] >= limit)
        return next(large, max(self.by_step, key=lambda update: update[1]))


@derived
def weight_updates(history: History) -> Updates | None:
    """Return how far the updates move the weights; None where it was not measured.

    Example:
        >>> from lightning_plateau.testing import history
        >>> run = history(
        ...     {
        ...         UPDATE_RATIOS: {"fc.weight": [0.2, 0.1, 0.1]},
        ...         PARAMETER_NORMS: {"fc.weight": [1.0, 4.0, 8.0]},
        ...     }
        ... )
        >>> moved = weight_updates(run)
        >>> moved.typical, moved.peak, moved.growth
        (0.1, 0.8, 8.0)
    """
    ratios = history[UPDATE_RATIOS]
    columns = _weights(history, ratios.labels)
    if not len(ratios) or not columns:
        return None
    norms = _aligned(history, columns)
    values = ratios.values[:, [ratios.places[name] for name in columns]]
    with np.errstate(all="ignore"):
        grown = np.minimum(norms / norms[:1], 1e12) if len(norms) else np.ones_like(values)
        known = len(grown) == len(values)
        by_start = _medians(values * np.maximum(1.0, grown) if known else values)
        by_now = _medians(values)
    known_rows = np.flatnonzero(np.isfinite(by_start))
    if not len(known_rows):
        return None
    later = finite(by_now[1:]) if len(by_now) > 1 else finite(by_now)
    gradient, disparity = _relative_gradients(history, columns)
    sizes = finite(_medians(grown))
    return Updates(
        rows=len(values),
        by_step=tuple((int(ratios.steps[row]), float(by_start[row])) for row in known_rows),
        typical=float(row_medians([later])[0]) if len(later) else float(by_start[known_rows[0]]),
        growth=float(sizes.max()) if len(sizes) else 1.0,
        gradient=gradient,
        disparity=disparity,
    )


def adaptive(history: History) -> bool:
    """Whether every optimizer normalizes its steps by the gradients it has seen."""
    kinds = [optimizer.kind for optimizer in history.profile.optimizers]
    return bool(kinds) and all(kind in ADAPTIVE for kind in kinds)


def _weights(history: History, labels: tuple[str, ...]) -> tuple[str, ...]:
    shapes = history.profile.shapes
    found = tuple(name for name in labels if len(shapes.get(name, ())) >= 2)
    return found or tuple(name for name in labels if not name.endswith("bias"))


def _aligned(history: History, columns: tuple[str, ...]) -> Floats:
    """Return the norms of ``columns`` at the steps of the update ratios, first row included."""
    norms, ratios = history[PARAMETER_NORMS], history[UPDATE_RATIOS]
    if not norms.places.keys() >= set(columns) or not np.array_equal(norms.steps, ratios.steps):
        return np.empty((0, len(columns)))
    return np.asarray(norms.values[:, [norms.places[name] for name in columns]])


def _medians(values: Floats) -> Floats:
    """Return the median of each row over what is finite: weights that were zero are left out."""
    return row_medians(values)


def _relative_gradients(history: History, columns: tuple[str, ...]) -> tuple[float, float]:
    gradients, norms = history[GRADIENT_NORMS], history[PARAMETER_NORMS]
    both = [name for name in columns if name in gradients.places and name in norms.places]
    if not len(gradients) or not len(norms) or not both:
        return float("nan"), 1.0
    first = gradients.values[0, [gradients.places[name] for name in both]]
    size = norms.values[0, [norms.places[name] for name in both]]
    with np.errstate(all="ignore"):
        relative = finite(first / size)
    relative = relative[relative > 0]
    if not len(relative):
        return float("nan"), 1.0
    return float(row_medians([relative])[0]), float(min(1e300, relative.max() / relative.min()))
