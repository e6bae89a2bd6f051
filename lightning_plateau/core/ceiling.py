"""A ceiling that values are held at: clipping that happened before anybody looked."""

from __future__ import annotations

import numpy as np

from lightning_plateau.core.history import Series

RECENT = 200
LEAST = 30
AGREEMENT = 1e-3
LEAST_SHARE = 0.5


def ceiling(series: Series) -> float | None:
    """Return the value that half of the recent values of a scalar series are held at, or None.

    Clipping by norm leaves every gradient that was too large with the same norm. Norms of mini-
    batches that nobody touched hardly ever agree to a part in a thousand.

    Example:
        >>> from lightning_plateau.core.signal import GRADIENT_NORM
        >>> steps = np.arange(60)
        >>> norms = np.minimum(1.0, 0.9 + 0.2 * np.abs(np.sin(17.0 * steps)))
        >>> ceiling(Series(GRADIENT_NORM, steps, norms))
        1.0
        >>> ceiling(Series(GRADIENT_NORM, steps, 0.9 + 0.2 * np.sin(17.0 * steps))) is None
        True
    """
    values = series.tail(RECENT).values
    values = values[np.isfinite(values)]
    if len(values) < LEAST or not values.max() > 0:
        return None
    held = values >= (1 - AGREEMENT) * values.max()
    return float(values.max()) if held.mean() > LEAST_SHARE else None
