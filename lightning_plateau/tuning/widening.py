"""Ranges that are widened where the best trial lies on their edge."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from lightning_plateau.tuning.space import Dimension, Space, Values

EDGE = 0.1
"""Share of a range, by its own scale, that counts as its edge."""
STEP = 10.0
"""Factor by which an edge is moved; where the scale is linear, half the range is added."""


def widened(space: Space, best: Values) -> tuple[Space, tuple[str, ...]]:
    """Return the space with room around the best values, and what was widened, in words.

    Only ranges of the ready spaces are widened, as far as they allow; a range that the user gave is
    kept.

    Args:
        space: What was searched.
        best: The best values so far.

    Example:
        >>> from lightning_plateau.tuning.spaces import learning_rate
        >>> widened(learning_rate, {"learning_rate": 0.9})[1]
        ('learning_rate: the best so far, 0.9, lies at the edge of 1e-05 … 1; searched up to 10',)
        >>> widened(learning_rate, {"learning_rate": 0.01})[1]
        ()
    """
    made: dict[str, Dimension] = {}
    said = []
    for name, dimension in space.dimensions.items():
        made[name], text = _widened(name, dimension, best.get(name))
        said += [text] if text else []
    return (Space(made), tuple(said)) if said else (space, ())


def _widened(name: str, dimension: Dimension, value: Any) -> tuple[Dimension, str]:
    found, limits = dimension.distribution, dimension.widest
    if limits is None or value is None:
        return dimension, ""
    if not isinstance(found, FloatDistribution | IntDistribution):
        return dimension, ""
    low, high = float(found.low), float(found.high)
    place = _place(float(value), low, high, log=found.log)
    if place <= EDGE and low > limits[0]:
        low = max(limits[0], low / STEP if found.log else low - (high - low) / 2)
        which, edge = "down", low
    elif place >= 1 - EDGE and high < limits[1]:
        high = min(limits[1], high * STEP if found.log else high + (high - low) / 2)
        which, edge = "up", high
    else:
        return dimension, ""
    whole = isinstance(found, IntDistribution)
    wider: FloatDistribution | IntDistribution = (
        IntDistribution(round(low), round(high), log=found.log)
        if whole
        else FloatDistribution(low, high, log=found.log)
    )
    text = (
        f"{name}: the best so far, {value:.3g}, lies at the edge of {found.low:.3g} … "
        f"{found.high:.3g}; searched {which} to {edge:.3g}"
    )
    return replace(dimension, distribution=wider), text


def _place(value: float, low: float, high: float, *, log: bool) -> float:
    """Return where a value lies in its range, 0 … 1 by the scale of the range."""
    if high <= low:
        return 0.5
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)
