"""Loss curves as healthy and sick trainings make them, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Curve = Callable[[Floats, Any], Any]

HEALTHY: dict[str, Curve] = {
    "exponential": lambda t, n: 2.3 * np.exp(-3 * t) + np.abs(n(0, 0.05, t.shape)),
    "linear, noisy": lambda t, n: 2.3 - 1.6 * t + n(0, 0.2, t.shape),
    "at once, then its floor": lambda t, n: 0.3 + 2 * np.exp(-50 * t) + n(0, 0.03, t.shape),
    "to the resolution of floats": lambda t, n: 2.3 * np.exp(-30 * t) * np.exp(n(0, 0.5, t.shape)),
    "batches of one": lambda t, n: 2.3 * np.exp(-3 * t) * np.exp(n(0, 1.0, t.shape)),
    "passing spike": lambda t, n: 2 * np.exp(-3 * t) + 5 * (np.abs(t - 0.5) < 0.01),
    "negative": lambda t, n: 1 - 4 * t + n(0, 0.2, t.shape),
    "plateau, then a drop": lambda t, n: 2.3 - 4 * np.clip(t - 0.6, 0, 0.4) + n(0, 0.02, t.shape),
    "edge of stability": lambda t, n: np.exp(-3 * t) * (1.2 + 0.3 * (-1.0) ** np.arange(len(t))),
    "warm restarts": lambda t, n: 2.3 * np.exp(-4 * t) + 0.15 * np.exp(-20 * ((4 * t) % 1)),
}


def curve(make: Curve, steps: int, seed: int = 0) -> Floats:
    """Return ``steps`` losses of a kind."""
    made: Floats = make(np.arange(steps) / steps, np.random.default_rng(seed).normal)
    return made
