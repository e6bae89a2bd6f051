"""How large gradients usually are: where to clip them."""

from __future__ import annotations

import numpy as np

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import GRADIENT_NORM
from lightning_plateau.core.statistics import log_ema_z_scores

RECENT = 200
LEAST = 20
SPIKE = 4.0
WIDEST = 1e3


def usual_norm(history: History, quantile: float = 0.5) -> float | None:
    """Return the median of the recent gradient norms that are sound; None where nothing is usual.

    Norms are recorded before clipping, so a limit that follows them does not pull itself down.
    Spikes stay out of it, and so does a lasting jump: what explodes does not raise the limit.
    Nothing is usual for fewer than 20 norms, or if most of them spread over orders of magnitude.

    Args:
        history: What was recorded.
        quantile: Which quantile of them, instead of the median.

    Example:
        >>> from lightning_plateau.testing import history
        >>> norms = [1.0, 1.1, 0.9] * 20 + [1e6] * 30
        >>> usual_norm(history({GRADIENT_NORM: norms}))
        1.0

    References:
        Kumar et al., 2025, "ZClip: Adaptive Spike Mitigation for LLM Pre-Training".
    """
    norms = history[GRADIENT_NORM].values
    scores = log_ema_z_scores(norms, z_limit=SPIKE)
    sound = norms[np.isfinite(norms) & (norms > 0.0) & ~(scores > SPIKE)]
    if len(sound) < LEAST:
        return None
    low, middle, high = np.quantile(sound[-RECENT:], (0.1, quantile, 0.9))
    return float(middle) if high < WIDEST * low else None
