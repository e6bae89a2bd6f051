"""What is to be expected of a trial, by its score, by guessing and by the trials before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_plateau.core.finding import Finding, Severity

EARLIEST, ALONE = 1 / 8, 1 / 4
"""Shares of a trial after which it is judged, where others are known that learned, and alone."""
WORSE, NEAR = 1.1, 0.95
"""Multiples of the loss of guessing above which nothing was learned, or next to nothing."""
LEARNED = 0.9
LEAST_OF_THE_WAY = 0.2
HALVED = 0.5


@dataclass(frozen=True)
class Standing:
    """Where a trial stands after a validation.

    Attributes:
        losses: Its validation losses so far, at least one.
        share: How much of the trial is over, 0 … 1.
        step: Its optimizer steps.
        guess: Loss of the best constant answer; None where unknown.
        best: Best loss of another sound trial at the same validation; None where there is none.
    """

    losses: Sequence[float]
    share: float
    step: int
    guess: float | None = None
    best: float | None = None

    @property
    def recent(self) -> float:
        """The best of the last three losses: a validation loss is noisy."""
        return min(self.losses[-3:])

    @property
    def learns(self) -> bool:
        """Whether the trial is better than guessing, or soon will be."""
        if self.guess is None:
            return False
        level = NEAR * self.guess
        earlier = _half_ago(self.losses)
        soon = self.recent - 2 * max(0.0, earlier - self.recent) <= level and self.share < ALONE
        return self.recent <= level or _on_its_way(self.losses) or soon

    @property
    def others_learned(self) -> bool:
        """Whether another trial has left guessing behind by this validation."""
        return self.best is not None and self.guess is not None and self.best < LEARNED * self.guess


def hopeless(standing: Standing) -> Finding | None:
    """Return why nothing is to be expected of a trial; None where something is.

    A validation loss that is not finite ends it at once. After an eighth of the trial, where others
    have learned something by then (after a quarter, where none is known), a loss that is no better
    than guessing does; after a quarter, one that has come less than a fifth of the way that another
    has come. A loss that has halved since the trial was half as old is on its way; in the first
    quarter also one that will be below guessing by the time the trial is twice as old.

    Example:
        >>> hopeless(Standing([2.31, 2.3], share=0.125, step=100, guess=2.303, best=0.5)).message
        'the validation loss is 2.3 after 12 % of the trial, and guessing gives 2.303'
        >>> hopeless(Standing([2.31, 1.5], share=0.125, step=100, guess=2.303, best=0.5)) is None
        True
    """
    if not math.isfinite(standing.losses[-1]):
        message = f"the validation loss is {standing.losses[-1]}"
        return _found(standing, "LP201", "non-finite-loss", message)
    if standing.guess is None or standing.guess <= 0 or _on_its_way(standing.losses):
        return None
    if standing.share < (EARLIEST if standing.others_learned else ALONE):
        return None
    if standing.recent > NEAR * standing.guess:
        return None if standing.learns else _nothing_learned(standing, standing.guess)
    return _left_behind(standing, standing.guess)


def _nothing_learned(standing: Standing, guess: float) -> Finding:
    beside = f", and guessing gives {guess:.4g}"
    worse = standing.recent > WORSE * guess
    code, name = ("LP808", "worse-than-guessing") if worse else ("LP807", "at-chance")
    return _found(standing, code, name, _said(standing) + beside)


def _left_behind(standing: Standing, guess: float) -> Finding | None:
    best = standing.best
    if best is None or not standing.others_learned or standing.share < ALONE:
        return None
    if guess - standing.recent >= LEAST_OF_THE_WAY * (guess - best):
        return None
    beside = f", where another had {best:.4g}"
    return _found(standing, "LP405", "slow-convergence", _said(standing) + beside)


def _on_its_way(losses: Sequence[float]) -> bool:
    return losses[-1] < HALVED * _half_ago(losses)


def _half_ago(losses: Sequence[float]) -> float:
    """Return the loss when the trial was half as old."""
    return losses[(len(losses) - 1) // 2]


def _said(standing: Standing) -> str:
    share = f"{100 * standing.share:.0f} %"
    return f"the validation loss is {standing.recent:.4g} after {share} of the trial"


def _found(standing: Standing, code: str, name: str, message: str) -> Finding:
    return Finding(code, name, standing.step, Severity.ERROR, 0.9, message)
