"""How much of the updates is weight decay, and what it made of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History, Series, Steps
from lightning_plateau.core.signal import (
    GRADIENT_NORMS,
    INITIAL_NORMS,
    LEARNING_RATES,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)

DECOUPLED = frozenset({"AdamW"})
"""Optimizers that shrink the weights beside the step instead of adding to the gradient."""


@dataclass(frozen=True, slots=True)
class Decay:
    """Weight decay of a typical weight: the median over the weights that have some.

    Attributes:
        share: Share of weight decay in the updates, 0 to 1; the median over sampled steps.
        size: Norm of the weights now over that before the first step.
        largest: The largest ``weight_decay`` that was set.
        weights: Number of weights that it rests on.
    """

    share: float
    size: float
    largest: float
    weights: int


@dataclass(frozen=True, slots=True)
class _Decayed:
    """One weight that decays: its name, rate of decay, group and kind of optimizer."""

    name: str
    rate: float
    group: str
    decoupled: bool


@derived
def decay(history: History) -> Decay | None:
    """Return what weight decay does to the weights; None where there is none, or it is unknown.

    Example:
        >>> from lightning_plateau.core.profile import GroupFact, OptimizerFact, Profile
        >>> from lightning_plateau.testing import history
        >>> sgd = OptimizerFact("SGD", (GroupFact(("w",), {"lr": 0.1, "weight_decay": 1.0}),))
        >>> run = history(
        ...     {
        ...         PARAMETER_NORMS: {"w": [9.0, 5.0, 1.0]},
        ...         INITIAL_NORMS: {"w": [10.0]},
        ...         GRADIENT_NORMS: {"w": [1.0, 1.0, 1.0]},
        ...     },
        ...     profile=Profile(optimizers=(sgd,)),
        ... )
        >>> found = decay(run)
        >>> round(found.share, 2), found.size
        (0.83, 0.1)
    """
    shares, sizes, rates = [], [], []
    for weight in _decayed(history):
        share = _share(history, weight)
        size = _size(history, weight.name)
        if share is not None and size is not None:
            shares.append(share)
            sizes.append(size)
            rates.append(weight.rate)
    if not shares:
        return None
    return Decay(float(np.median(shares)), float(np.median(sizes)), max(rates), len(shares))


def _decayed(history: History) -> Iterator[_Decayed]:
    several = len(history.profile.optimizers) > 1
    matrices = {fact.name for fact in history.profile.parameters if len(fact.shape) > 1}
    for index, optimizer in enumerate(history.profile.optimizers):
        for place, group in enumerate(optimizer.groups):
            rate = group.settings.get("weight_decay")
            if not isinstance(rate, int | float) or not 0 < rate < np.inf:
                continue
            decoupled = (
                optimizer.kind in DECOUPLED or group.settings.get("decoupled_weight_decay") is True
            )
            label = f"{index}.{place}" if several else f"{place}"
            for name in group.parameters:
                if name in matrices or (not matrices and name):
                    yield _Decayed(name, float(rate), label, decoupled)


def _share(history: History, weight: _Decayed) -> float | None:
    """Return the median share of decay in the updates of one weight."""
    norms = history[PARAMETER_NORMS].column(weight.name).finite
    if weight.decoupled:
        moved = _at(history[UPDATE_RATIOS].column(weight.name), norms.steps)
        rates = _before(history[LEARNING_RATES].column(weight.group), norms.steps)
        with np.errstate(all="ignore"):
            shares = np.minimum(1.0, rates * weight.rate / moved)
    else:
        pulled = weight.rate * norms.values
        with np.errstate(all="ignore"):
            gradients = _at(history[GRADIENT_NORMS].column(weight.name), norms.steps)
            shares = pulled / (pulled + gradients)
    known = shares[np.isfinite(shares)]
    return float(np.median(known)) if len(known) else None


def _at(series: Series, steps: Steps) -> Floats:
    """Return the values of a scalar series at ``steps``; NaN where there is none."""
    at = dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))
    return np.array([at.get(step, np.nan) for step in steps.tolist()])


def _before(series: Series, steps: Steps) -> Floats:
    """Return the last finite value of a scalar series at or before each of ``steps``."""
    known = series.finite
    places = np.searchsorted(known.steps, steps, side="right") - 1
    return np.array([known.values[p] if p >= 0 else np.nan for p in places.tolist()])


def _size(history: History, name: str) -> float | None:
    norms = history[PARAMETER_NORMS].column(name).finite
    before = history[INITIAL_NORMS].column(name).finite
    start = before if len(before) else norms
    if not len(norms) or not start.values[0] > 0:
        return None
    with np.errstate(all="ignore"):
        return float(min(1e12, norms.values[-1] / start.values[0]))
