"""LP407: the steps are too short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.along_update import AlongUpdate, along_update, best_multiple
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.learning_rates import share_of_peak, warming_up
from lightning_plateau.core.progress import Progress, progress
from lightning_plateau.core.quantities import one_digit
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import (
    EXPERIMENT_STEP_SIZE,
    GRADIENT_NORMS,
    LEARNING_RATES,
    LOSS,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)
from lightning_plateau.core.updates import Updates, adaptive, weight_updates


@dataclass(frozen=True)
class LearningRateTooLow(Rule):
    """The learning rate is too low.

    What it detects:
        The loss has fallen by less than a tenth, and all updates so far, laid end to end, amount to
        2 % of the weights of a typical layer; or to 20 %, where the loss falls steadily all the
        while, so that the direction is right and only the length is not. Where the experiment with
        learning rates got furthest at ten times the rate or more, a quarter is little too. It is
        not the learning rate that is to blame where gradients are lost on their way (unless the
        optimizer undoes their scale), nor during warm-up, nor at the end of a schedule. Where the
        step-size experiment was made, ten times the update must not raise the loss of its batch.

    Why it matters:
        The network stays where it was initialized.

    Example:
        >>> from lightning_plateau.testing import history
        >>> signals = {
        ...     UPDATE_RATIOS: {"fc.weight": [1e-7, 1e-7]},
        ...     PARAMETER_NORMS: {"fc.weight": [5.0, 5.0]},
        ...     GRADIENT_NORMS: {"fc.weight": [0.5] * 100},
        ...     LEARNING_RATES: {"0": [1e-6]},
        ... }
        >>> finding = LearningRateTooLow().check(history(signals, loss=[2.3] * 100))
        >>> finding.message
        'an update moves the weights by 1e-07 of their size: 100 steps could move them by 1e-05'
        >>> finding.fix
        'raise the learning rate: lr=0.001 in place of 1e-06, then look again'

    Remedies:
        raise-learning-rate.

    Known limitations:
        Very wide networks learn with small relative updates; the rule speaks only where the loss
        does not go down.

    References:
        Bengio, 2012, Practical Recommendations for Gradient-Based Training of Deep Architectures
        (updates of about a thousandth of the weights). Wardat et al., 2022, DeepDiagnosis (ICSE).
    """

    code: ClassVar[str] = "LP407"
    name: ClassVar[str] = "learning-rate-too-low"
    requires: ClassVar = (
        LOSS,
        UPDATE_RATIOS,
        PARAMETER_NORMS,
        GRADIENT_NORMS,
        LEARNING_RATES,
        EXPERIMENT_STEP_SIZE,
    )
    explains: ClassVar = ("LP104", "LP306", "LP401", "LP405", "LP414", "LP802", "LP807", "LP808")
    remedies: ClassVar = ("raise-learning-rate",)
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "the network stays where it was initialized"

    least_path: float = 0.02
    least_path_when_falling: float = 0.2
    most_fall: float = 0.1
    most_fall_when_proved: float = 0.25
    multiple_that_proves: float = 10.0
    least_gradient: float = 1e-3
    ordinary_update: float = 1e-3
    most_raise: float = 1e3
    least_share_of_peak: float = 0.1

    def check(self, history: History) -> Finding | None:
        """Return the fault where the updates are too short to lead anywhere."""
        moved = weight_updates(history)
        gone = progress(history[LOSS])
        if moved is None or not moved.typical > 0 or self._came_far(history, gone):
            return None
        if warming_up(history) or share_of_peak(history) < self.least_share_of_peak:
            return None
        along = along_update(history)
        if along is not None and along.long_enough:
            return None
        steady = (gone.slope < 0 and gone.now < gone.start) or (along is not None and along.short)
        path = moved.typical * max(history.step, gone.rows)
        if path > (self.least_path_when_falling if steady else self.least_path):
            return None
        # Gradients are as small as the loss is scaled.
        least_gradient = self.least_gradient * min(1.0, gone.scale)
        if not adaptive(history) and not moved.gradient > least_gradient:
            return None
        return self._report(history, moved, path, steady)

    def _came_far(self, history: History, gone: Progress) -> bool:
        """Whether the loss has fallen too far for short steps to be to blame, or is unknown."""
        tried = best_multiple(history)
        proved = tried is not None and tried >= self.multiple_that_proves
        most = self.most_fall_when_proved if proved else self.most_fall
        return gone.rows == 0 or gone.fall > most

    def _report(self, history: History, moved: Updates, path: float, steady: bool) -> Finding:
        steps, along = max(history.step, len(history[LOSS])), along_update(history)
        tried = along is not None and along.short
        return self.finding(
            history,
            0.9 if steady else 0.75,
            f"an update moves the weights by {moved.typical:.1g} of their size: {steps} steps "
            f"could move them by {path:.1g}"
            + (
                ", though the loss falls on and on along them"
                if tried
                else ", though the loss falls steadily"
                if steady
                else ""
            ),
            evidence=(
                Evidence(UPDATE_RATIOS.tag, moved.typical, self.ordinary_update, "typical layer"),
                Evidence("all updates laid end to end", path, self.least_path),
                *(() if along is None else _changes(along)),
            ),
            fix=self._fix(history, moved),
        )

    def _fix(self, history: History, moved: Updates) -> str:
        rates = history[LEARNING_RATES]
        now = float(rates.last_row.max()) if len(rates) and rates.labels else float("nan")
        tried = best_multiple(history)
        factor = min(self.most_raise, max(3.0, self.ordinary_update / moved.typical))
        factor = max(factor, tried or 0.0)
        if not np.isfinite(now) or now <= 0:
            return f"multiply the learning rate by about {one_digit(factor)}, then look again"
        rate = one_digit(now * factor)
        return f"raise the learning rate: lr={rate} in place of {now:.3g}, then look again"


def _changes(along: AlongUpdate) -> tuple[Evidence, Evidence]:
    return (
        Evidence("change of the loss by an update", along.whole),
        Evidence("change of the loss by ten times the update", along.tenfold),
    )
