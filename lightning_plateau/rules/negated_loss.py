"""LP710: the loss has the wrong sign, so that training makes the model worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.sign import LIKELIHOODS, signs
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import Tape


@dataclass(frozen=True)
class NegatedLoss(Rule):
    """The loss has the wrong sign, so that training makes the model worse.

    What it detects:
        Every loss function that backward starts from is negated on the way, or log-probabilities
        are not; and the loss is below zero, which no such loss can be.

    Why it matters:
        The loss goes down without end, and each step moves the model away from the targets.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> x, y = Operand("batch", 0, "0", (8, 3)), Operand("batch", 1, "1", (8,))
        >>> loss = Operation(0, "cross_entropy", "", (x, y))
        >>> negated = Operation(1, "neg", "", (Operand("operation", 0),))
        >>> run = history(loss=[-1.1, -1.3, -1.6], tapes=[Tape(0, (loss, negated), root=1)])
        >>> NegatedLoss().check(run).message
        'backward starts from minus cross_entropy: the loss went from -1.1 to -1.6'

    Remedies:
        Advice only: take the minus away; or put one before the mean of log-probabilities.

    Known limitations:
        Where two optimizers play against each other nothing is said. Who climbs a loss on purpose,
        to make a model forget, is told of it too.

    References:
        Humbatova et al., 2020, Taxonomy of Real Faults in Deep Learning Systems (ICSE).
    """

    code: ClassVar[str] = "LP710"
    name: ClassVar[str] = "negated-loss"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS,)
    explains: ClassVar = (
        "LP201",
        "LP202",
        "LP203",
        "LP301",
        "LP401",
        "LP402",
        "LP405",
        "LP406",
        "LP414",
        "LP801",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "each step moves the model away from the targets"

    def check(self, history: History) -> Finding | None:
        """Return the fault where all that is minimized should be maximized, or the reverse."""
        losses, tape = history[LOSS].finite.values, history.last_tape
        if tape is None or len(history.profile.optimizers) > 1 or not len(losses):
            return None
        entering = signs(tape)
        wrong = [
            tape.operations[index]
            for index, sign in entering.items()
            if _is_wrong(tape, index, sign)
        ]
        if not wrong or len(wrong) < len(entering) or not np.median(losses) < 0:
            return None
        culprit = wrong[0]
        plain = culprit.name in LIKELIHOODS
        before = "the mean of" if plain else "minus"
        return self.finding(
            history,
            0.9,
            f"backward starts from {before} {culprit.name}: the loss went from {losses[0]:.4g} to "
            f"{losses[-1]:.4g}",
            evidence=(Evidence(LOSS.tag, float(losses[-1]), 0.0),),
            fix="put a minus before it: the negative log-likelihood is what is minimized"
            if plain
            else "take the minus away: optimizers minimize what training_step returns",
            where=culprit.site,
            step=0,
        )


def _is_wrong(tape: Tape, index: int, entering: frozenset[int]) -> bool:
    """Whether an operation enters the loss with the wrong sign alone."""
    return entering == {1 if tape.operations[index].name in LIKELIHOODS else -1}
