"""What the experiments of fitting say: one batch by heart, and true against shuffled labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import (
    BATCH_SIZE,
    EXPERIMENT_BATCH_MIXING,
    EXPERIMENT_OVERFIT,
    EXPERIMENT_SHUFFLED_LABELS,
    EXPERIMENT_ZERO_INPUTS,
    Signal,
)


def latest(history: History, signal: Signal) -> Mapping[str, float]:
    """Return the last row of an experiment by condition; empty where it was not made.

    Example:
        >>> latest(History(), EXPERIMENT_OVERFIT)
        {}
    """
    series = history[signal]
    if not len(series):
        return {}
    return dict(zip(series.labels, series.last_row.tolist(), strict=True))


def fall(before: float, after: float) -> float:
    """Return by how much ``after`` lies below ``before``, as a share of the larger; NaN if unknown.

    Example:
        >>> fall(2.0, 0.5), fall(1.0, 2.0)
        (0.75, -0.5)
    """
    size = max(abs(before), abs(after))
    if not (math.isfinite(before) and math.isfinite(after)) or size == 0.0:
        return math.nan
    return before / size - after / size


MOST_SAMPLES = 1e12
ENOUGH = 0.3
"""Fall with zeros for inputs, as a share, from which on the batch cannot show what inputs add."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """How far the loss of one batch came down when the batch was repeated.

    Attributes:
        before: Loss before.
        after: Lowest loss that any attempt reached.
        own: Fall by the run's own optimizer, as a share; NaN where its loss was not finite.
        best: Fall of the best attempt, as a share.
        blind: Fall with zeros for inputs, as a share; NaN where it was not tried.
    """

    before: float
    after: float
    own: float
    best: float
    blind: float = math.nan

    @property
    def learned(self) -> float:
        """Fall that is owed to the inputs, as a share: what goes beyond fitting without them."""
        # Where much is gained by one answer for all (the mean of targets that are far from zero), a
        # short attempt shows nothing of what would be learned next.
        # The same where one answer reaches as much as was aimed at: a few samples need no more.
        if math.isnan(self.blind) or self.best > 0.5 or self.blind > ENOUGH:
            return self.best
        return self.best - max(0.0, self.blind)


@derived
def fitting(history: History) -> Fitting | None:
    """Return what came of overfitting one batch; None where it was not tried, or told nothing.

    Example:
        >>> from lightning_plateau.testing import history
        >>> fitting(history({EXPERIMENT_OVERFIT: {"before": [2.0], "own": [1.9], "adam": [0.5]}}))
        Fitting(before=2.0, after=0.5, own=0.05, best=0.75, blind=nan)
    """
    row = latest(history, EXPERIMENT_OVERFIT)
    before = row.get("before", math.nan)
    reached = [v for v in (row.get("own"), row.get("adam")) if v is not None and math.isfinite(v)]
    if not math.isfinite(before) or not reached or before == 0.0:
        return None
    own, blind = (fall(before, row.get(name, math.nan)) for name in ("own", "blind"))
    best = fall(before, min(reached))
    return Fitting(before, min(reached), round(own, 6), round(best, 6), round(blind, 6))


@derived
def too_few_parameters(history: History) -> bool:
    """Whether the model has fewer trainable numbers than a batch has samples.

    Such a model cannot learn a batch by heart, and nothing is wrong with its wiring.

    Example:
        >>> too_few_parameters(History())
        False
    """
    samples = history[BATCH_SIZE].values
    samples = np.clip(samples[np.isfinite(samples)], 0.0, MOST_SAMPLES)
    size = history.profile.trainable_size
    return bool(len(samples) and 0 < size < float(np.median(samples)))


@dataclass(frozen=True, slots=True)
class LabelTest:
    """How a short training on true labels compares with one on shuffled labels.

    Attributes:
        true: Fall of the loss of the true labels, as a share.
        shuffled: The same of the shuffled ones.
        gained: By how much more of its loss unseen data lost with true labels than with shuffled
            ones, as a share.
    """

    true: float
    shuffled: float
    gained: float

    @property
    def learned(self) -> bool:
        """Whether the training was long enough to learn anything."""
        return self.true > 0.05 and self.shuffled > 0.05

    @property
    def informative(self) -> bool | None:
        """Whether the labels say something of the inputs; None where the test does not tell."""
        if self.gained > 0.05 and self.true > self.shuffled:
            return True
        if self.learned and self.gained < 0.02 and self.true < 1.5 * self.shuffled:
            return False
        return None


@derived
def label_test(history: History) -> LabelTest | None:
    """Return what came of shuffling the labels; None where it was not tried, or told nothing.

    Example:
        >>> from lightning_plateau.testing import history
        >>> losses = {"before": [2.0], "true": [1.0], "shuffled": [1.0]}
        >>> unseen = {"unseen before": [2.0], "unseen true": [2.5], "unseen shuffled": [2.4]}
        >>> label_test(history({EXPERIMENT_SHUFFLED_LABELS: {**losses, **unseen}})).informative
        False
    """
    row = latest(history, EXPERIMENT_SHUFFLED_LABELS)
    if not row:
        return None
    before, unseen = row.get("before", math.nan), row.get("unseen before", math.nan)
    true = fall(before, row.get("true", math.nan))
    shuffled = fall(before, row.get("shuffled", math.nan))
    gained = fall(unseen, row.get("unseen true", math.nan)) - max(
        0.0, fall(unseen, row.get("unseen shuffled", math.nan))
    )
    if not all(math.isfinite(value) for value in (true, shuffled, gained)):
        return None
    return LabelTest(true, shuffled, gained)


@derived
def inputs_count(history: History) -> bool | None:
    """Return whether each sample's prediction rests on its own input; None where it is not known.

    False where the loss is the same with zeros for inputs and with those of other samples, or where
    predictions change with the neighbours in the batch.

    Example:
        >>> from lightning_plateau.testing import history
        >>> same = {"real": [2.3], "zeroed": [2.3], "swapped": [2.3]}
        >>> inputs_count(history({EXPERIMENT_ZERO_INPUTS: same}))
        False
    """
    zeroed, mixed = ignored_inputs(history), mixing(history)
    if zeroed is None and mixed is None:
        return None
    return not (zeroed or (mixed or 0.0) > MIXED)


IGNORED = 1e-6
"""Largest change of the loss, as a share, where the inputs are ignored."""
HALF = frozenset({"float16", "bfloat16"})
"""Types whose neighbouring numbers lie further apart than IGNORED, by far."""
MIXED = 0.01
"""Least change of a prediction, as a share of the spread of all, where samples are mixed."""


def ignored_inputs(history: History) -> bool | None:
    """Return whether zero-inputs found the loss the same whatever the inputs.

    None where it was not made, and where weights of half precision make losses too coarse to tell.
    """
    if any(fact.dtype in HALF for fact in history.profile.parameters):
        return None
    row = latest(history, EXPERIMENT_ZERO_INPUTS)
    real, zeroed, swapped = (row.get(name, math.nan) for name in ("real", "zeroed", "swapped"))
    if not all(math.isfinite(loss) for loss in (real, zeroed, swapped)):
        return None
    return all(abs(fall(real, loss)) <= IGNORED for loss in (zeroed, swapped) if real)


def mixing(history: History) -> float | None:
    """Return by how much predictions change where half of the batch is left out; None if not made.

    What repeating the same batch changes is taken off.
    """
    row = latest(history, EXPERIMENT_BATCH_MIXING)
    halved, repeated = row.get("halved", math.nan), row.get("repeated", math.nan)
    if not (math.isfinite(halved) and math.isfinite(repeated)):
        return None
    return max(0.0, halved - 2 * repeated)
