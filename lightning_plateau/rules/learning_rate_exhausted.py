"""LP408: the schedule has used up the learning rate, and training is not done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.learning_rates import share_of_peak, spent_at
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import LEARNING_RATES


@dataclass(frozen=True)
class LearningRateExhausted(Rule):
    """The schedule has used up the learning rate, and training is not done.

    What it detects:
        In a training that fails: the learning rate has stayed below a hundredth of its peak for a
        quarter of the planned steps, and for 50 at least.

    Why it matters:
        What was not learned by then will not be: the steps have become too short.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.testing import history
        >>> rates = {LEARNING_RATES: {"0": [0.1] * 40 + [1e-4] * 60}}
        >>> run = history(rates, loss=[2.3] * 100, profile=Profile(planned_steps=200))
        >>> LearningRateExhausted().check(run).message
        'since step 40 of 200 the learning rate is 0.1 % of its peak'

    Remedies:
        warm-restart begins the schedule anew, from a higher learning rate.

    Known limitations:
        How far a run of unlimited length has to go is not known: there, as many steps as it took
        to use the rate up count.

    References:
        Loshchilov and Hutter, 2017, SGDR: Stochastic Gradient Descent with Warm Restarts (ICLR).
    """

    code: ClassVar[str] = "LP408"
    name: ClassVar[str] = "learning-rate-exhausted"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (LEARNING_RATES,)
    explains: ClassVar = ("LP306", "LP401", "LP405", "LP407", "LP414", "LP807", "LP808")
    remedies: ClassVar = ("warm-restart",)
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "the steps have become too short to learn anything more"

    spent: float = 0.01
    least_share_of_plan: float = 0.25
    minimum_steps: int = 50

    def check(self, history: History) -> Finding | None:
        """Return the fault where the learning rate has long been spent."""
        since = spent_at(history, self.spent)
        if since is None:
            return None
        planned = history.profile.planned_steps
        enough = since if planned is None else self.least_share_of_plan * planned
        if history.step - since < max(self.minimum_steps, enough):
            return None
        share = share_of_peak(history)
        of = f" of {planned}" if planned is not None else ""
        return self.finding(
            history,
            0.6,
            f"since step {since}{of} the learning rate is {_of_peak(share)}",
            evidence=(Evidence("learning rate over its peak", share, self.spent),),
            fix="let the schedule end with training: its length is "
            "self.trainer.estimated_stepping_batches; or give it a floor (eta_min, min_lr)",
            step=since,
        )


def _of_peak(share: float) -> str:
    """Return a share of the peak in words; below a millionth its digits say nothing more."""
    return f"{100 * share:.2g} % of its peak" if share >= 1e-6 else "next to nothing of its peak"
