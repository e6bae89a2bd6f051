"""LP710: the loss has the wrong sign, so that training makes the model worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.likeness import Likeness, likenesses
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.sign import LIKELIHOODS, proportional, signs
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS
from lightning_plateau.core.tape import Tape


@dataclass(frozen=True)
class NegatedLoss(Rule):
    """The loss has the wrong sign, so that training makes the model worse.

    What it detects:
        Every loss function that backward starts from is negated on the way, or log-probabilities
        are not; and the loss is below zero, which no such loss can be. Or the loss is written by
        hand and grows with the product of predictions and targets (an overlap, a cosine, a Dice
        coefficient without ``1 -``), targets come into it by nothing else, and while it fell the
        correlation of the two fell below zero, or their cosine to half of what it was. Or all that
        the loss compares are differences of predictions and targets that enter it in proportion,
        with no square or absolute value, and it is below zero. Or the loss has fallen a thousand
        times as far below zero as it was at the start, and the gradient has grown a thousandfold
        with it, as it does where a term is subtracted that grows faster than what is added.

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
        Advice only: take the minus away; or put one before the mean of log-probabilities; and
        ``1 - overlap`` in place of ``overlap``.

    Known limitations:
        Where two optimizers play against each other nothing is said. Who climbs a loss on purpose,
        to make a model forget, is told of it too.

    References:
        Humbatova et al., 2020, Taxonomy of Real Faults in Deep Learning Systems (ICSE).
    """

    code: ClassVar[str] = "LP710"
    name: ClassVar[str] = "negated-loss"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS, GRADIENT_NORM)
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
    method: ClassVar[Method] = "training_step"
    why: ClassVar[str] = "each step moves the model away from the targets"

    least_correlation: float = 0.1
    few: int = 5
    growth: float = 1e3

    def check(self, history: History) -> Finding | None:
        """Return the fault where all that is minimized should be maximized, or the reverse."""
        losses, tape = history[LOSS].finite.values, history.last_tape
        if tape is None or len(history.profile.optimizers) > 1 or not len(losses):
            return None
        return (
            self._negated(history, tape)
            or self._made_unlike(history, tape)
            or self._signed_errors(history, tape)
            or self._bottomless(history)
        )

    def _negated(self, history: History, tape: Tape) -> Finding | None:
        """Return the fault where loss functions or log-probabilities have the wrong sign."""
        losses = history[LOSS].finite.values
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

    def _made_unlike(self, history: History, tape: Tape) -> Finding | None:
        """Return the fault where a loss by hand grows with the likeness of outputs and targets."""
        first, now = _likeness(history.tapes[0]), _likeness(tape)
        losses = history[LOSS].finite
        gone = progress(losses)
        if first is None or now is None or tape.step == history.tapes[0].step:
            return None
        # The cosine of two vectors that are never negative ends at zero.
        most = first.correlation / 2 if now.is_cosine else -self.least_correlation
        if gone.least <= 0.0 or now.correlation > most:
            return None
        if first.correlation - now.correlation < self.least_correlation:
            return None
        site = now.operation.site
        return self.finding(
            history,
            0.9,
            f"the loss grows with the likeness of predictions and targets ({site}), so training "
            f"undoes it: their correlation went from {first.correlation:.2f} to "
            f"{now.correlation:.2f} while the loss went from {losses.values[0]:.4g} to "
            f"{gone.now:.4g}",
            evidence=(
                Evidence("correlation of predictions and targets", now.correlation, 0.0, site),
            ),
            fix="return 1 - overlap (or -overlap): optimizers minimize what training_step returns",
            where=site,
            step=tape.step,
        )

    def _signed_errors(self, history: History, tape: Tape) -> Finding | None:
        """Return the fault where errors below zero are taken for better than none."""
        compared, losses = comparisons(tape), history[LOSS].finite.values
        if not compared or signs(tape) or not np.median(losses[-self.few :]) < 0:
            return None
        straight = proportional(tape)
        aimed = all(tape.from_batch(one.target) is not None for one in compared)
        if not aimed or any(one.operation.index not in straight for one in compared):
            return None
        site = compared[0].operation.site
        return self.finding(
            history,
            0.9,
            f"the loss is the mean of differences ({site}), not of their squares or absolute "
            f"values: it went from {losses[0]:.4g} to {losses[-1]:.4g}",
            evidence=(Evidence(LOSS.tag, float(losses[-1]), 0.0, site),),
            fix="F.mse_loss(prediction, target), or F.l1_loss: an error below zero is one as well",
            where=site,
            step=0,
        )

    def _bottomless(self, history: History) -> Finding | None:
        """Return the fault where the loss falls for ever, the faster the lower it is."""
        losses, norms = history[LOSS].finite.values, history[GRADIENT_NORM].finite.values
        if min(len(losses), len(norms)) < 4 * self.few:
            return None
        start, now = np.median(losses[: self.few]), np.median(losses[-self.few :])
        calm, steep = np.median(norms[: self.few]), np.median(norms[-self.few :])
        if not 0 < self.growth * calm < steep or -now < self.growth * max(abs(start), 1e-12):
            return None
        return self.finding(
            history,
            0.8,
            f"the loss went from {start:.3g} to {now:.3g} and the gradient norm from {calm:.2g} to "
            f"{steep:.2g}: what is minimized has no lower bound",
            evidence=(Evidence(LOSS.tag, float(now), -self.growth * abs(float(start))),),
            fix="look for a term that is subtracted and should be added: a divergence, a penalty, "
            "a distance",
        )


def _likeness(tape: Tape) -> Likeness | None:
    """Return the one likeness that the loss grows with; None where there is more to the loss."""
    found = likenesses(tape)
    alone = not comparisons(tape) and not signs(tape)
    return found[0] if len(found) == 1 and alone and found[0].signs == {1} else None


def _is_wrong(tape: Tape, index: int, entering: frozenset[int]) -> bool:
    """Whether an operation enters the loss with the wrong sign alone."""
    return entering == {1 if tape.operations[index].name in LIKELIHOODS else -1}
