"""Spikes: values far above what came before, for a short while."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_plateau.core.chance import untrained_loss
from lightning_plateau.core.history import Floats, History, Series, Steps
from lightning_plateau.core.signal import LEARNING_RATES, LOSS
from lightning_plateau.core.statistics import log_ema_z_scores
from lightning_plateau.core.trend import MAGNITUDE, finite_values, value_noise

BLOCK = 25
BEFORE = 4
"""Rows of a block, and blocks that a spike is compared with."""
LEAST_ROWS, LEAST_STANDING = 5, 2
"""Rows of a spike, and blocks of a leap that the loss has not come down from."""
OF_THE_FALL = 0.05
"""Share of all that a loss has come down by below which a rise is of no account."""


@dataclass(frozen=True, slots=True)
class Spike:
    """A run of values far above those before it.

    Attributes:
        step: Optimizer step at which it begins.
        rows: Its length.
        peak: Largest value.
        before: Median of what came before it.
    """

    step: int
    rows: int
    peak: float
    before: float


def loss_spikes(series: Series) -> list[Spike]:
    """Return the spikes of a loss, in order.

    A spike is a run of at least five values, each above twice the median of the hundred values
    before, above what is usually the largest of them by half, beyond six times the noise, and by a
    twentieth of how far the loss has come down altogether. What stays up for longer than a hundred
    steps is no spike, nor is what the beginning of a run has nothing before to compare with.

    Example:
        >>> from lightning_plateau.core.signal import LOSS
        >>> losses = np.concatenate([np.linspace(2, 1, 200), [4.0] * 8, np.ones(92)])
        >>> loss_spikes(Series(LOSS, np.arange(300), losses))
        [Spike(step=200, rows=8, peak=4.0, before=1.2487437185929648)]
    """
    values, steps = _finite(series)
    if len(values) <= BEFORE * BLOCK:
        return []
    medians, tops = _before(values)
    if not (values > medians + np.abs(medians)).any():
        return []  # as in most runs; the rest need not be known
    room = _room(values, medians, tops, value_noise(values), _fall(values))
    return [
        Spike(int(steps[a]), b - a, float(values[a:b].max()), float(medians[a]))
        for a, b in _runs(values > medians + room)
        if LEAST_ROWS <= b - a < BEFORE * BLOCK
        # What stays up soon looks ordinary: it must have come down to where it was.
        and (b == len(values) or np.median(values[b : b + 10]) <= medians[a] + room[a])
    ]


def standing_leap(history: History) -> Spike | None:
    """Return the leap of a loss that it has not come down from; None where there is none.

    The medians of twenty-five losses each, two at the least, lie above all of the four before them,
    at twice what these are or more, beyond the noise, and by a twentieth of how far the loss had
    come down altogether, from that of a model that has learned nothing where it began above. A loss
    with values below zero has no scale to tell.

    Example:
        >>> from lightning_plateau.testing import history
        >>> losses = np.concatenate([np.linspace(2, 1, 200), [9.0] * 8, np.full(92, 3.0)])
        >>> standing_leap(history(loss=losses))
        Spike(step=200, rows=100, peak=9.0, before=1.2487437185929648)
    """
    values, steps = _finite(history[LOSS])
    blocks = len(values) // BLOCK
    if blocks < BEFORE + LEAST_STANDING or values.min() < 0:
        return None
    values, steps = values[-blocks * BLOCK :], steps[-blocks * BLOCK :]
    levels = np.median(values.reshape(blocks, BLOCK), axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(levels, BEFORE)[:-LEAST_STANDING]
    lowest = np.minimum.accumulate(levels[::-1])[::-1][BEFORE : -LEAST_STANDING + 1]
    before = np.median(windows, axis=1)
    if not (lowest > 2 * before).any():
        return None  # as in most runs; the rest need not be known
    noise, fall = value_noise(values), _fall(values, untrained_loss(history))
    least = np.maximum(2 * before, before + max(4 * noise / BLOCK**0.5, OF_THE_FALL * fall))
    leapt = np.flatnonzero((lowest > least) & (lowest > windows.max(axis=1)))
    if not len(leapt):
        return None
    first = int(leapt[0]) + BEFORE
    since = values[(first - 1) * BLOCK :]
    up = np.median(np.lib.stride_tricks.sliding_window_view(since, LEAST_ROWS), axis=1)
    start = (first - 1) * BLOCK + LEAST_ROWS // 2 + int(np.argmax(up > least[leapt[0]]))
    peak = float(values[start:].max())
    return Spike(int(steps[start]), len(values) - start, peak, float(before[leapt[0]]))


def norm_spikes(series: Series, *, least_ratio: float = 10.0, z_limit: float = 6.0) -> list[Spike]:
    """Return the spikes of a gradient norm, in order; they last ten steps at most.

    A spike is ``z_limit`` standard deviations above the recent past on a log scale, and
    ``least_ratio`` times its median.

    Example:
        >>> from lightning_plateau.core.signal import GRADIENT_NORM
        >>> norms = np.tile([1.0, 1.1, 0.9], 60)
        >>> norms[150] = 90.0
        >>> [spike.step for spike in norm_spikes(Series(GRADIENT_NORM, np.arange(180), norms))]
        [150]
    """
    finite = np.isfinite(series.values) & (series.values > 0)
    values, steps = np.minimum(series.values[finite], MAGNITUDE), series.steps[finite]
    if len(values) <= BEFORE * BLOCK:
        return []
    medians, _ = _before(values)
    large = values > least_ratio * medians
    if not large.any():
        return []  # as in most runs; the scores take a while
    high = large & (log_ema_z_scores(values, z_limit=z_limit) > z_limit)
    return [
        Spike(int(steps[a]), b - a, float(values[a:b].max()), float(medians[a]))
        for a, b in _runs(high)
        if b - a <= 10
    ]


def at_a_raised_rate(history: History, step: int) -> bool:
    """Whether the learning rate rose by half or more in the 25 steps up to ``step``."""
    series = history[LEARNING_RATES]
    rates = np.where(np.isfinite(series.values), series.values, -np.inf)
    if not series.labels or not len(rates):
        return False
    largest = rates.max(axis=1)
    now = largest[: np.searchsorted(series.steps, step, side="right")]
    then = largest[: np.searchsorted(series.steps, step - BLOCK, side="right")]
    return bool(len(now) and len(then) and now[-1] > 1.5 * then[-1])


def held_up(history: History, first: Spike) -> bool:
    """Whether the loss has not come down since ``first``, and had much further to go.

    What lies below half of the loss of a model that has learned nothing may well be done.
    """
    values = finite_values(history[LOSS])
    earlier = finite_values(history[LOSS].until(first.step))[-2 * BLOCK :]
    untrained = untrained_loss(history)
    if untrained is None or not len(earlier):
        return False
    now, before = float(np.median(values[-2 * BLOCK :])), float(np.median(earlier))
    fall = max(0.05 * abs(before), 2 * value_noise(values) / len(earlier) ** 0.5)
    return now > max(before - fall, untrained / 2) and untrained > 0


def _finite(series: Series) -> tuple[Floats, Steps]:
    finite = np.isfinite(series.values)
    return np.clip(series.values[finite], -MAGNITUDE, MAGNITUDE), series.steps[finite]


def _fall(values: Floats, most: float | None = None) -> float:
    """Return how far a loss has come down altogether, from ``most`` where it began above it."""
    start = float(np.median(values[:5]))
    return (start if most is None else min(start, most)) - float(np.quantile(values, 0.05))


def _room(values: Floats, medians: Floats, tops: Floats, noise: float, fall: float) -> Floats:
    """Return by how much each value must lie above the median before it to be part of a spike."""
    least = np.full(len(values), max(6 * noise, OF_THE_FALL * fall))
    room: Floats = np.maximum(np.maximum(np.abs(medians), 1.5 * (tops - medians)), least)
    return room


def _before(values: Floats) -> tuple[Floats, Floats]:
    """Return the median, and the usual largest value, of the four whole blocks before each value.

    Both are 1e150 for the first values. A spike among the blocks does not make large values usual.
    """
    blocks = len(values) // BLOCK
    table = values[: blocks * BLOCK].reshape(blocks, BLOCK)
    ordered = np.sort(table, axis=1)  # np.median takes twice as long, for rows as short as these
    middles, tops = ordered[:, BLOCK // 2], ordered[:, -1]
    median, top = np.full(blocks + 1, MAGNITUDE), np.full(blocks + 1, MAGNITUDE)
    windows = np.lib.stride_tricks.sliding_window_view
    for of, blockwise in ((median, middles), (top, tops)):
        latest = np.sort(windows(blockwise, BEFORE), axis=1)
        of[BEFORE:] = 0.5 * (latest[:, BEFORE // 2 - 1] + latest[:, BEFORE // 2])
    block_of = np.arange(len(values)) // BLOCK
    return median[block_of], top[block_of]


def _runs(high: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the beginnings and ends of the runs of true values."""
    edges = np.diff(np.concatenate([[0], high.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
