"""LP807: the loss is that of guessing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import Guess, best_guess, guessing
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.generalization import validation_falls
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.learning_rates import since_warm_up, warming_up
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.patience import patience
from lightning_plateau.core.penalty import penalty
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LEARNING_RATES, LOSS, TARGETS
from lightning_plateau.core.tape import Tape


@dataclass(frozen=True)
class AtChance(Rule):
    """The loss is that of guessing.

    What it detects:
        After the first epoch and a sixth of the planned run (500 steps at most) the loss lies
        within 5 % of what the best constant answer reaches: ln K for K classes, the variance of the
        targets for a squared error; and neither it nor the validation loss is on its way down.
        Where penalties of the weights are added to the loss, the loss of the data alone is looked
        at: a falling total may hide it.

    Why it matters:
        It is a symptom: whatever the network computes, the inputs tell its answers nothing.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 10))
        >>> sides = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,)))
        >>> tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
        >>> run = history(loss=[2.31] * 100, tapes=[tape], epoch_ends=[50, 100])
        >>> AtChance().check(run).message
        'the loss is 2.31 after 2 epochs, and guessing among 10 classes gives 2.303'

    Remedies:
        None of its own: the findings above it name the cause.

    Known limitations:
        Where classes are of unequal frequency, the best constant answer is better than ln K, and
        a loss that stays there is only flat. What is unknown of the loss (weights, several losses)
        leaves the rule silent, and so do several optimizers: adversaries settle at chance.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks (the input-independent baseline).
    """

    code: ClassVar[str] = "LP807"
    name: ClassVar[str] = "at-chance"
    symptom: ClassVar[bool] = True
    requires: ClassVar = (LOSS, LEARNING_RATES, TARGETS)
    explains: ClassVar = ("LP401", "LP405")
    why: ClassVar[str] = "the answers of the network gain nothing from its inputs"

    minimum_steps: int = 20
    margin: float = 0.05
    least_ahead: float = 0.05

    def check(self, history: History) -> Finding | None:
        """Return the fault where the loss of the data stays at that of guessing."""
        if not history.epoch_ends or len(history.profile.optimizers) > 1:
            return None
        young = history.step < max(self.minimum_steps, patience(history))
        if young or (warming_up(history) and not history.finished):
            return None
        for guess, level in (
            (guessing(history), self._level(history)),
            self._beside_penalties(history),
        ):
            # A level that is unknown is NaN, and near to nothing.
            if guess is not None and guess.loss > 0 and self._near(level, guess):
                return self._report(history, guess, level)
        return None

    def _near(self, level: float, guess: Guess) -> bool:
        return abs(level / guess.loss - 1.0) <= self.margin

    def _level(self, history: History) -> float:
        """Return where the loss stays; NaN where it is on its way."""
        gone = progress(history[LOSS].since(since_warm_up(history)))
        if gone.rows < self.minimum_steps or -gone.slope * gone.rows > self.least_ahead:
            return math.nan
        planned = history.profile.planned_steps
        left = gone.rows if planned is None else max(gone.rows, planned - history.step)
        falling = -gone.slope * left > self.least_ahead or validation_falls(history)
        return math.nan if falling and not history.finished else gone.now

    def _beside_penalties(self, history: History) -> tuple[Guess | None, float]:
        """Return the loss of guessing and that of the data, where penalties are added to it."""
        first_epoch = history.epoch_ends[0]
        later = [tape for tape in history.tapes if tape.step >= min(first_epoch, history.step - 1)]
        known = [one for tape in later if (one := _penalized(tape)) is not None]
        if len(known) < 2:
            return None, math.nan
        values = np.array([one.operation.statistics.get("mean", math.nan) for one in known])
        guess = best_guess(known)
        return guess, self._steady(values, guess)

    def _steady(self, values: Floats, guess: Guess | None) -> float:
        """Return the middle of ``values``, were every one at chance; else NaN."""
        if guess is None or not np.isfinite(values).all() or guess.loss <= 0:
            return math.nan
        near = np.abs(np.clip(values, -1e150, 1e150) / guess.loss - 1.0) <= self.margin
        return float(np.median(values)) if near.all() else math.nan

    def _report(self, history: History, guess: Guess, level: float) -> Finding:
        epochs = len(history.epoch_ends)
        among = f" among {guess.classes} classes" if guess.classes else ""
        return self.finding(
            history,
            0.9,
            f"the loss is {level:.4g} after {epochs} {'epoch' if epochs == 1 else 'epochs'}, "
            f"and guessing{among} gives {guess.loss:.4g}",
            evidence=(Evidence("level of the loss now", level, guess.loss),),
        )


def _penalized(tape: Tape) -> Comparison | None:
    """Return the one averaged loss of ``tape``, where nothing but penalties is added to it."""
    found = [one for one in comparisons(tape) if one.prediction.source == "operation"]
    added = penalty(tape)
    if len(found) != 1 or added is None or found[0].by_hand:
        return None
    [comparison] = found
    reduction = comparison.operation.attributes.get("reduction", "mean")
    alone = added.beside == (comparison.operation.index,)
    return comparison if reduction == "mean" and alone else None
