"""Leaps: whether to go back from one that lasts, and from one that a training ends in.

A loss that leaps and comes down again is no harm. One that stays up costs a step with each step;
to go back costs those since the last state that was well. One that leaps in the last steps has no
time left to come down, and what the training hands over is the worst it had in a long while.
Nothing can be tried then, and nothing needs to be: the batch under way tells which weights are
better.
"""

from __future__ import annotations

import numpy as np

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rise import LAST, LATEST, chance_rise, rise_since
from lightning_plateau.core.signal import LOSS
from lightning_plateau.remedies.roll_back import RollBack
from lightning_plateau.training.run import Run
from lightning_plateau.treatment.setback import Setback, setback

HEIGHT = 1.0
"""By how many times its level the loss must have risen."""
OF_THE_FALL = 0.05
"""Share of all that the loss had come down by that it must rise again."""
LEAP = "LP404"
"""Code of a loss that leaps."""


def last_leap(run: Run) -> Setback | None:
    """Return the leap that a run ends in; None where it does not end in one.

    Args:
        run: The run at its last step, with the batch under way; on several ranks all of them ask.
    """
    earlier = run.snapshots.latest(before=run.step)
    if earlier is None or earlier.step == 0 or len(run.adapters) != 1:
        return None
    if not len(run.history[LOSS].finite.until(earlier.step)):
        return None
    level, least = _levels(run.history, earlier.step)
    if not rise_since(run.history, earlier.step, rows=LAST) > max(HEIGHT * abs(level), least):
        return None
    found = setback(run, earlier, rows=LAST)
    # The leap may be on its way down again, so its height tells nothing of the batch under way.
    if found is None or not found.now - found.earlier > max(HEIGHT * abs(found.earlier), least):
        return None
    return found


def worth_going_back(run: Run, leap: Finding) -> bool:
    """Whether to wait for a loss to come down from a leap has cost more than to go back would.

    Whoever knows neither how long it will take nor whether it ends loses the least by waiting just
    as long: never more than twice what was to be lost. Where there is no way back, or it is not
    what the leap calls for, nothing is waited for.

    References:
        Karlin et al., 1988, Competitive Snoopy Caching (Algorithmica 3; to rent or to buy).
    """
    earlier = run.snapshots.latest(before=leap.step)
    if earlier is None or RollBack.name not in leap.remedies:
        return True
    return run.step - leap.step >= leap.step - earlier.step


def _levels(history: History, step: int) -> tuple[float, float]:
    """Return where the loss was at ``step``, and the least rise since that is of account."""
    losses = history[LOSS].finite
    level = float(np.median(losses.until(step).tail(LATEST).values))
    fall = float(losses.values[0]) - level
    return level, max(OF_THE_FALL * fall, chance_rise(history, step, rows=LAST))
