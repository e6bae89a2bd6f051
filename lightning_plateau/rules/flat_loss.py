"""LP401: the loss does not go down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.trend import chance_loss, loss_trend


@dataclass(frozen=True)
class FlatLoss(Rule):
    """The training loss does not go down.

    What it detects:
        The loss has not fallen materially since training started, and it is not falling now. The
        judgement takes the noise of the loss into account: the recent half must show no significant
        fall (Mann–Kendall test) of at least 1 % of the loss or three times its noise. A loss that
        sits far below the loss of guessing, or at its floor, is not flat but finished.

    Why it matters:
        It is the symptom that most faults end in. Nothing is learned while it lasts.

    Example:
        >>> from lightning_plateau.testing import history
        >>> import numpy as np
        >>> wobble = 0.01 * np.sin(np.arange(300.0))
        >>> finding = FlatLoss().check(history(loss=2.303 + wobble))
        >>> finding.code, finding.message
        ('LP401', 'the loss stays at 2.303: it changed by -0.1 % in 300 steps')
        >>> FlatLoss().check(history(loss=2.303 * 0.99 ** np.arange(300.0) + wobble)) is None
        True

    Remedies:
        None of its own: a flat loss is a symptom. The findings above it name the cause.

    Known limitations:
        A loss that plateaus for longer than half of the run and then drops is reported while it is
        flat. The loss of a GAN's generator carries no such information; runs with more than one
        optimizer are not judged.

    References:
        Mann, 1945, Nonparametric tests against trend. Zhang et al., 2021, AutoTrainer (ICSE).
    """

    code: ClassVar[str] = "LP401"
    name: ClassVar[str] = "flat-loss"
    symptom: ClassVar[bool] = True
    requires: ClassVar = (LOSS,)
    why: ClassVar[str] = "nothing is learned while the loss stays where it started"

    minimum_steps: int = 40
    least_progress: float = 0.05
    finished_share_of_chance: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault where the loss neither has fallen nor falls."""
        trend = loss_trend(history)
        if trend.rows < self.minimum_steps or len(history.profile.optimizers) > 1:
            return None
        if trend.falling or trend.rising or trend.progress > self.least_progress:
            return None
        chance = chance_loss(history)
        if chance is not None and trend.last < self.finished_share_of_chance * chance:
            return None
        relative = 100 * trend.total_change / trend.scale if trend.scale > 0 else 0.0
        at_chance = chance is not None and abs(trend.last - chance) < 0.05 * chance
        return self.finding(
            history,
            0.95 if at_chance else 0.8,
            f"the loss stays at {trend.last:.4g}: it changed by {relative:.1f} % in {trend.rows} steps",
            evidence=(
                Evidence("loss/train", trend.last, chance, "level now, beside the loss of guessing"),
                Evidence("change over the recent half", trend.change, -3 * trend.noise, unit="loss"),
            ),
        )
