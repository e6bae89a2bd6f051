"""LP401: the loss does not go down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import Guess, guessing, stopped_at_frequencies
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.generalization import validation_falls
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.learning_rates import since_warm_up, warming_up
from lightning_plateau.core.moving_target import target_moves
from lightning_plateau.core.patience import patience
from lightning_plateau.core.progress import MEDIAN_ERROR, Progress, progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LEARNING_RATES, LOSS
from lightning_plateau.core.trend import MAGNITUDE, about_zero, value_noise


@dataclass(frozen=True)
class FlatLoss(Rule):
    """The training loss does not go down.

    What it detects:
        The loss has not fallen by 5 % since training started, nor will it by the planned end at its
        present pace; or it fell no further than to the loss of a constant guess (with three classes
        or more, to four fifths of it; or to that of guessing classes by their frequencies) and
        stays there. Both judgements allow for the noise of the loss: where noise could hide a real
        fall, the rule is silent. It waits while the run goes on and the loss seems to fall, or has
        just risen from where it had come down to (a leap is no rest), or the latest validation is
        clearly better than guessing and any before. A learning rate that is still
        warming up is given its time. A loss whose targets the training makes itself (bootstrapped
        values, sampled actions) is not judged: its level is no measure of error.

    Why it matters:
        It is the symptom that most faults end in. Nothing is learned while it lasts.

    Example:
        >>> from lightning_plateau.testing import history
        >>> import numpy as np
        >>> wobble = 0.01 * np.sin(np.arange(300.0))
        >>> finding = FlatLoss().check(history(loss=2.303 + wobble))
        >>> finding.code, finding.message
        ('LP401', 'the loss stays at 2.303: in 300 steps it hardly moved')
        >>> FlatLoss().check(history(loss=2.303 * 0.99 ** np.arange(300.0) + wobble)) is None
        True

    Remedies:
        A flat loss is a symptom: those of its cause come first. Where none is known, or none of
        them has helped, what most often does: reinitialize, switch-optimizer, a longer or a shorter
        step.

    Known limitations:
        A plateau at the start that lasts longer than a sixth of the run is reported while it lasts.
        Where the loss of guessing is unknown, a loss that falls and then stays high counts as
        finished training. The loss of a GAN carries no such information: runs with more than one
        optimizer are not judged.

    References:
        Mann, 1945, Nonparametric tests against trend. Zhang et al., 2021, AutoTrainer (ICSE).
    """

    code: ClassVar[str] = "LP401"
    name: ClassVar[str] = "flat-loss"
    symptom: ClassVar[bool] = True
    requires: ClassVar = (LOSS, LEARNING_RATES)
    remedies: ClassVar = (
        "reinitialize",
        "switch-optimizer",
        "raise-learning-rate",
        "decay-learning-rate",
    )
    why: ClassVar[str] = "nothing is learned while the loss stays where it is"

    minimum_steps: int = 20
    least_fall: float = 0.05
    most_hidden_fall: float = 0.25
    at_chance: float = 0.95
    near_chance: float = 0.8
    finished_share_of_chance: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault where the loss neither has fallen nor falls, or stays at chance."""
        losses = history[LOSS].since(since_warm_up(history))
        gone = progress(losses)
        if not self._judged(history, gone):
            return None
        stopped = stopped_at_frequencies(history)
        if stopped is not None and self._ahead(history, gone) <= self.least_fall:
            return self._report(history, gone, *stopped)
        guess = guessing(history)
        if guess is not None and gone.now < self.finished_share_of_chance * guess.loss:
            return None
        stuck = guess is not None and gone.now >= self._stuck_at(guess) * guess.loss
        if not (stuck or self._never_fell(gone)):
            return None
        ahead = self._ahead(history, gone) + (0.0 if stuck else gone.fall)
        moves = self._is_on_the_move(losses) or validation_falls(history)
        if ahead > self.least_fall or (moves and not history.finished):
            return None
        return self._report(history, gone, guess if stuck else None, gone.now)

    def _judged(self, history: History, gone: Progress) -> bool:
        enough = max(self.minimum_steps, patience(history))
        if gone.rows < enough or len(history.profile.optimizers) > 1:
            return False
        if about_zero(history[LOSS]) or target_moves(history):
            return False
        return history.finished or not warming_up(history)

    def _stuck_at(self, guess: Guess) -> float:
        return self.near_chance if guess.classes > 2 else self.at_chance

    def _never_fell(self, gone: Progress) -> bool:
        return gone.least < self.least_fall and gone.most < self.most_hidden_fall

    def _ahead(self, history: History, gone: Progress) -> float:
        """Return the fall that the present pace leads to: by the planned end, or in a like time."""
        planned = history.profile.planned_steps
        left = gone.rows if planned is None else max(gone.rows, planned - history.step)
        if history.finished:
            left = 0
        steep = -gone.slope * gone.rows
        return steep if steep > self.least_fall else -gone.slope * left

    def _is_on_the_move(self, losses: Series) -> bool:
        """Whether the loss seems to fall, or has just risen from where it had come down to.

        It seems to fall where the last quarter lies below the second, were it by chance: the next
        will tell. Where it rose, the next will tell whether it stays there.
        """
        values = np.clip(losses.finite.values, -MAGNITUDE, MAGNITUDE)
        start, second, third, now = (float(np.median(part)) for part in np.array_split(values, 4))
        least = self.least_fall * max(abs(second), abs(now))
        error = 2 * MEDIAN_ERROR * value_noise(values) * math.sqrt(8 / len(values))
        return second - now > least or min(start, now) - third > least + error

    def _moved(self, history: History, gone: Progress) -> str:
        """Return how the loss came to where it stays, in words that do not gainsay that."""
        if gone.fall > self.least_fall:
            return f"it came down to that from {gone.start:.4g}"
        judged = history[LOSS].since(since_warm_up(history)).steps
        steps = int(judged[-1] - judged[0]) + 1  # a logger may have kept one loss of many
        if abs(gone.fall) < 0.0005:
            return f"in {steps} steps it hardly moved"
        way = "rose" if gone.fall < 0 else "fell"
        return f"in {steps} steps it {way} by {100 * abs(gone.fall):.1f} % only"

    def _report(
        self, history: History, gone: Progress, guess: Guess | None, level: float
    ) -> Finding:
        moved = self._moved(history, gone)
        at_chance = guess is not None and level >= self.at_chance * guess.loss
        if guess is not None:
            moved = f"guessing gives {guess.loss:.4g}; {moved}"
        if guess is not None and guess.uneven:
            moved = f"guessing by how frequent the classes are gives {guess.loss:.4g}"
        return self.finding(
            history,
            0.95 if at_chance else 0.8 if guess is None else 0.6,
            f"the loss stays at {level:.4g}: {moved}",
            evidence=(
                Evidence("level of the loss now", level, guess.loss if guess is not None else None),
                Evidence("fall since the start", gone.fall, self.least_fall),
                Evidence("fall that noise may hide", gone.most, self.most_hidden_fall),
            ),
        )
