"""LP403: the loss swings from side to side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.oscillation import Oscillation, oscillation
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.trend import loss_trend


@dataclass(frozen=True)
class OscillatingLoss(Rule):
    """The training loss swings from side to side and does not get lower.

    What it detects:
        About its trend, the recent half of the loss jumps to and fro: neighbours lie on opposite
        sides more often than chance allows (lag-1 autocorrelation), by more than a tenth of the
        level, while the level neither falls nor has fallen to a tenth of the start. The noise of
        mini-batches has no such correlation; where an epoch has ten steps or fewer, whose order
        repeats, the means of epochs are judged. Where each step sees all data, so that nothing but
        the steps themselves can move the loss, any six turns of a fifth of the level count too.

    Why it matters:
        The updates jump over the minimum from one side of the valley to the other.

    Example:
        >>> from lightning_plateau.testing import history
        >>> OscillatingLoss().check(history(loss=[1.0, 1.5] * 30)).message
        'the loss swings by ±20 % about 1.5 from step to step, up and down in turn'
        >>> OscillatingLoss().check(history(loss=[1.0, 1.01] * 30)) is None
        True

    Remedies:
        decay-learning-rate.

    Known limitations:
        Swings of several steps, as momentum makes them, are only told from noise in full-batch
        training.

    References:
        Cohen et al., 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge of
        Stability (ICLR). Zhang et al., 2021, AutoTrainer (ICSE).
    """

    code: ClassVar[str] = "LP403"
    name: ClassVar[str] = "oscillating-loss"
    symptom: ClassVar[bool] = True
    requires: ClassVar = (LOSS,)
    remedies: ClassVar = ("decay-learning-rate", "average-weights")
    why: ClassVar[str] = "the updates jump over the minimum from one side to the other"

    least_amplitude: float = 0.1
    least_turns: int = 6
    least_share_of_start: float = 0.1

    def check(self, history: History) -> Finding | None:
        """Return the fault where the loss swings and gets nowhere."""
        gone = progress(history[LOSS])
        if loss_trend(history).falling or gone.now < self.least_share_of_start * abs(gone.start):
            return None
        swings = oscillation(history)
        if len(history.profile.optimizers) > 1 or not self._swings(swings):
            return None
        return self.finding(
            history,
            0.8,
            f"the loss swings by ±{100 * swings.amplitude:.0f} % about {gone.now:.4g} from step to "
            f"step, up and down in turn",
            evidence=(
                Evidence("amplitude about the trend", swings.amplitude, self.least_amplitude),
                Evidence("lag-1 autocorrelation", swings.correlation, swings.correlation_limit),
                Evidence("turns by a fifth of the level", float(swings.turns)),
            ),
        )

    def _swings(self, swings: Oscillation) -> bool:
        turns = swings.noise_free and swings.turns >= self.least_turns
        # The amplitude takes longest, and most losses end before it.
        return (swings.to_and_fro or turns) and not swings.amplitude < self.least_amplitude
