"""Whether a loss has come to rest, or to the end of the run, where much is left of it."""

from __future__ import annotations

from lightning_plateau.core.chance import guessing_by_frequency
from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.moving_target import target_moves
from lightning_plateau.core.patience import patience
from lightning_plateau.core.progress import progress
from lightning_plateau.core.signal import LOSS

FEWEST = 100
"""Losses that tell that a loss has come to rest."""
MUCH, MOST = 0.2, 0.5
"""Shares of the loss of guessing that are much to rest at, and the better part."""
LEAST_FALL = 0.1
"""Share by which a loss falls in half a run that is not at rest."""


@derived
def stalled_short(history: History) -> bool:
    """Return whether the loss has come to rest above a fifth of that of guessing.

    Or the run is over, and the loss above half of it. Many tasks have no lower loss, so it is no
    sign of a fault by itself. Beside a fault that is plain to see in the code it says that the
    training has not overcome it.

    Example:
        >>> stalled_short(History())
        False
    """
    losses, guess = history[LOSS].finite, guessing_by_frequency(history)
    if guess is None or guess.loss <= 0.0 or target_moves(history):
        return False
    if len(losses) < max(FEWEST, patience(history)):
        return False
    recent = progress(losses.tail(len(losses) // 2))
    falls = recent.slope < 0.0 and -recent.slope * recent.rows > LEAST_FALL
    if history.finished and recent.now > MOST * guess.loss:
        return True
    return recent.now > MUCH * guess.loss and not falls
