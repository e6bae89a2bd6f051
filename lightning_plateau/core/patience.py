"""How long to wait before a run is judged by what it has not done yet."""

from __future__ import annotations

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History

SHARE = 6
LONGEST = 500


@derived
def patience(history: History) -> int:
    """Return the optimizer steps that a run is given before it must have got somewhere.

    Many sound trainings stay at the start for a while: deep or recurrent networks, tiny batches,
    tasks that must be understood as a whole. How long depends on what the user reckons with: a
    sixth of the planned run, 500 steps at most. A run that is over, or has no planned end, is given
    nothing.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> patience(History(profile=Profile(planned_steps=1200)))
        200
        >>> patience(History(profile=Profile(planned_steps=1200), finished=True))
        0
    """
    planned = history.profile.planned_steps
    if planned is None or history.finished:
        return 0
    return min(LONGEST, planned // SHARE)
