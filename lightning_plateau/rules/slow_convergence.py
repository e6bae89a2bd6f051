"""LP405: the loss falls, but too slowly to get anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import Guess, guessing
from lightning_plateau.core.code_term import code_term
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.generalization import generalization
from lightning_plateau.core.history import History
from lightning_plateau.core.learning_rates import since_warm_up, warming_up
from lightning_plateau.core.progress import Progress, progress
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import LEARNING_RATES, LOSS
from lightning_plateau.core.statistics import block_medians
from lightning_plateau.core.trend import finite_values


@dataclass(frozen=True)
class SlowConvergence(Rule):
    """The loss falls, but too slowly to get anywhere.

    What it detects:
        With half of the planned steps made, or all of them, the loss is still above seven tenths of
        that of guessing. It falls beyond doubt, and as fast in the later half as in the earlier
        one, validation too, so it is not settling on a floor; but at this pace it will not have
        come down to half of guessing by the planned end. Of numbers, and of yes or no, which may be
        mostly noise, it is said before the end only while the loss has fallen by less than a tenth.

    Why it matters:
        The direction is right and the steps are too short: the run will end before it has learned.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> logits = Operation(0, "linear", operands=(Operand("parameter", name="w"),))
        >>> sides = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, shape=(8,)))
        >>> tape = Tape(0, (logits, Operation(1, "cross_entropy", operands=sides)), root=1)
        >>> losses = np.linspace(2.31, 2.0, 500)
        >>> run = history(loss=losses, tapes=[tape], profile=Profile(planned_steps=1000))
        >>> SlowConvergence().check(run).message
        'the loss fell from 2.31 to 2.039 in 500 steps; guessing gives 2.303'

    Remedies:
        Those of its cause come first. Where none is known: switch-optimizer, raise-learning-rate.

    Known limitations:
        It needs the loss of guessing: other losses have no scale to tell slow from done. Runs with
        more than one optimizer are not judged, nor variational autoencoders: noise in the code and
        its price keep their loss up.

    References:
        Zhang et al., 2021, AutoTrainer (ICSE), on slow convergence. Godbole et al., 2023, Deep
        Learning Tuning Playbook.
    """

    code: ClassVar[str] = "LP405"
    name: ClassVar[str] = "slow-convergence"
    severity: ClassVar[Severity] = Severity.WARNING
    symptom: ClassVar[bool] = True
    requires: ClassVar = (LOSS, LEARNING_RATES)
    remedies: ClassVar = ("switch-optimizer", "raise-learning-rate")
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "the run will end before it has learned"

    minimum_rows: int = 100
    least_share_of_plan: float = 0.5
    high: float = 0.7
    enough: float = 0.5
    least_fall: float = 0.03
    least_steadiness: float = 0.6
    least_validations: int = 4
    hardly: float = 0.1

    def check(self, history: History) -> Finding | None:
        """Return the symptom where the loss falls steadily, and too slowly."""
        guess = guessing(history)
        if guess is None or guess.loss <= 0 or not _comparable(history):
            return None
        if not self._late(history) or (warming_up(history) and not history.finished):
            return None
        losses = history[LOSS].since(since_warm_up(history))
        gone = progress(losses)
        if gone.rows < self.minimum_rows or not self.high * guess.loss < gone.now < gone.start:
            return None
        early = self._may_be_noise(history, guess) and gone.fall > self.hardly
        if early or gone.least < self.least_fall or not self._steady(finite_values(losses)):
            return None
        if self._ahead(history, gone) < self.enough * guess.loss or self._settled(history):
            return None
        return self.finding(
            history,
            0.7,
            f"the loss fell from {gone.start:.4g} to {gone.now:.4g} in {gone.rows} steps; guessing "
            f"gives {guess.loss:.4g}",
            evidence=(
                Evidence("level of the loss now", gone.now, self.high * guess.loss),
                Evidence("fall in a step", -gone.slope * gone.scale, unit="loss"),
            ),
        )

    def _may_be_noise(self, history: History, guess: Guess) -> bool:
        """Whether numbers, or yes or no, may be mostly noise, and the run is not over to tell."""
        return guess.classes <= 2 and not history.finished

    def _late(self, history: History) -> bool:
        planned = history.profile.planned_steps
        return history.finished or (
            planned is not None and history.step >= self.least_share_of_plan * planned
        )

    def _settled(self, history: History) -> bool:
        """Whether validation has slowed down: training still falls, but learns little more."""
        values = generalization(history).validation
        return len(values) >= self.least_validations and not self._steady(values)

    def _steady(self, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
        """Whether the later half falls about as fast as the earlier one."""
        first, second, third, last = block_medians(values, 4).tolist()
        return bool(second - last > self.least_steadiness * (first - third) > 0)

    def _ahead(self, history: History, gone: Progress) -> float:
        """Return the loss that the present pace leads to by the planned end."""
        left = max(0, (history.profile.planned_steps or 0) - history.step)
        return gone.now + gone.slope * gone.scale * (0 if history.finished else left)


def _comparable(history: History) -> bool:
    """Whether the loss can be held against that of guessing: one player, and no noisy code."""
    coded = any(code_term(tape) is not None for tape in history.tapes[-1:])
    return len(history.profile.optimizers) <= 1 and not coded
