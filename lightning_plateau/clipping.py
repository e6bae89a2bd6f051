"""How large gradients usually are: where to clip them."""

from __future__ import annotations

import numpy as np

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import GRADIENT_NORM
from lightning_plateau.core.statistics import log_ema_z_scores

RECENT = 200
LEAST = 20
SPIKE = 4.0


def usual_norm(history: History) -> float | None:
    """Return the median of the recent gradient norms that are sound; None for fewer than 20.

    Norms are recorded before clipping, so a limit that follows them does not pull itself down.
    Spikes stay out of it, and so does a lasting jump: what explodes does not raise the limit.

    Args:
        history: What was recorded.

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
    return float(np.median(sound[-RECENT:])) if len(sound) >= LEAST else None
