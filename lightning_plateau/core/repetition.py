"""Repetition: which samples come again, as far as they were fingerprinted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.samples import samples_of
from lightning_plateau.core.signal import (
    DATA_CONSTANT,
    DATA_MEAN,
    DATA_STD,
    FINGERPRINTED,
    REPEATED,
    VALIDATION_FINGERPRINTED,
    VALIDATION_REPEATED,
    Signal,
)
from lightning_plateau.core.tape import Operand

RICH = 32
"""Varying features of samples that do not coincide by chance."""
MOST = 1e12


@dataclass(frozen=True, slots=True)
class Repetition:
    """Samples that come again.

    Attributes:
        seen: Samples of the first epoch that were fingerprinted.
        repeated: Those among them that had come before.
        validation_seen: Samples of the validation with the most overlap that were fingerprinted.
        validation_repeated: Those among them that training had been given.
        coverage: Share of the training set that was fingerprinted; 1 where its size is unknown.
    """

    seen: float
    repeated: float
    validation_seen: float
    validation_repeated: float
    coverage: float

    @property
    def share(self) -> float:
        """Share of the training samples that had come before in the same epoch."""
        return self.repeated / self.seen if self.seen > 0 else 0.0

    @property
    def leak(self) -> float:
        """Share of the validation samples that training was given, extrapolated to all of it."""
        found = self.validation_repeated / self.validation_seen if self.validation_seen > 0 else 0.0
        return min(1.0, found / self.coverage) if self.coverage > 0 else 0.0


@derived
def repetition(history: History) -> Repetition:
    """Return which samples come again; all 0 where none were fingerprinted.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.testing import history
        >>> validation = {VALIDATION_FINGERPRINTED: [100.0], VALIDATION_REPEATED: [10.0]}
        >>> training = {FINGERPRINTED: [32.0, 64.0], REPEATED: [0.0, 0.0]}
        >>> found = repetition(history(training | validation, profile=Profile(dataset_size=128)))
        >>> found.share, found.leak
        (0.0, 0.2)
    """
    seen, repeated = _last(history, FINGERPRINTED), _last(history, REPEATED)
    of, again = history[VALIDATION_FINGERPRINTED].values, history[VALIDATION_REPEATED].values
    pairs = [
        (float(m), float(n))
        for m, n in zip(again, of, strict=False)
        if 0 <= m <= n < MOST and n > 0
    ]
    most = max(pairs, key=lambda pair: pair[0] / pair[1], default=(0.0, 0.0))
    size = history.profile.dataset_size
    coverage = min(1.0, seen / size) if size and seen > 0 else 1.0
    return Repetition(seen, min(repeated, seen), most[1], most[0], coverage)


def distinct_samples(history: History) -> float | None:
    """Return how many different samples an epoch is made of; None where unknown.

    It is the size of the data set, less what an epoch repeats. That an epoch leaves most of it out,
    as when somebody overfits one batch on purpose, does not make it smaller.
    """
    size = history.profile.dataset_size
    return size * (1.0 - repetition(history).share) if size else None


def coincide_by_chance(history: History) -> bool:
    """Whether samples may coincide and not be copies: few features vary, or they are binary."""
    found = samples_of(history)
    if found is None or not found.inputs:
        return True
    return all(_varying(history, one) < RICH for one in found.inputs)


def _varying(history: History, leaf: Operand) -> float:
    """Return how many features of a tensor of the batch vary; 0 where they are binary."""
    values = [history[s].column(leaf.name).finite.values for s in (DATA_MEAN, DATA_STD)]
    constant = history[DATA_CONSTANT].column(leaf.name).finite.values
    if any(not len(column) for column in values):
        return 0.0
    mean, std = (float(np.clip(column[-1], -MOST, MOST)) for column in values)
    binary = math.isclose(std**2, mean - mean**2, rel_tol=1e-3, abs_tol=1e-9)
    share = 1.0 - float(np.clip(constant[-1], 0.0, 1.0)) if len(constant) else 1.0
    return 0.0 if binary else prod(leaf.shape[1:]) * share


def _last(history: History, signal: Signal) -> float:
    values = history[signal].finite.values
    return float(np.clip(values[-1], 0.0, MOST)) if len(values) else 0.0
