"""LP402: the loss goes up, and stays there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.generalization import validation_holds
from lightning_plateau.core.history import History
from lightning_plateau.core.moving_target import target_moves
from lightning_plateau.core.patience import patience
from lightning_plateau.core.rise import Rise, rise
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS
from lightning_plateau.core.trend import finite_values, trend


@dataclass(frozen=True)
class DivergingLoss(Rule):
    """The training loss goes up, and stays there.

    What it detects:
        The level of the last tenth of the run lies half above the lowest level before, by more than
        the noise explains and by a fifth of the first loss at least, nine in ten of the last losses
        lie above that level, and it is not coming down again. In runs of a few steps, which give no
        levels, a tenfold loss counts. Where the loss of guessing is known, a loss that began there
        and lies far above it counts as well, after a hundred steps and a sixth of the run even
        where it is on its way down: it has yet to come to where it began. Where the validation loss
        stays as good as ever, the task has become harder, not the model worse. A loss that is
        negative at times, or has a term that is, has no natural scale: it must rise out of its own
        noise. Where a network is compared with the answers of a network, or with samples of its
        own, the targets move and a loss rises with them: only a tenfold one counts.

    Why it matters:
        What was learned is being lost. Left alone, it ends in infinity and NaN.

    Example:
        >>> from lightning_plateau.testing import history
        >>> import numpy as np
        >>> losses = np.concatenate([np.linspace(2, 1, 50), np.linspace(1, 6, 50)])
        >>> DivergingLoss().check(history(loss=losses)).message
        'the loss rose from 1.092 to 5.541 and does not come down'
        >>> DivergingLoss().check(history(loss=losses[:50])) is None
        True

    Remedies:
        roll-back returns to the best weights, with a smaller learning rate; decay-learning-rate and
        clip-gradients keep it from happening again.

    Known limitations:
        A term of the loss that the program makes heavier in the course of training (the annealed
        divergence of a variational autoencoder) looks the same where there is no validation. Runs
        with more than one optimizer are not judged.

    References:
        Zhang et al., 2021, AutoTrainer (ICSE). Godbole et al., 2023, Deep Learning Tuning Playbook.
    """

    code: ClassVar[str] = "LP402"
    name: ClassVar[str] = "diverging-loss"
    symptom: ClassVar[bool] = True
    requires: ClassVar = (LOSS, VALIDATION_LOSS)
    explains: ClassVar = ("LP401", "LP404", "LP807", "LP808")
    remedies: ClassVar = (
        "roll-back",
        "decay-learning-rate",
        "warm-up",
        "clip-gradients",
        "stop-training",
    )
    why: ClassVar[str] = "what was learned is being lost, and the end of it is NaN"

    least_ratio: float = 1.5
    least_share_of_start: float = 0.2
    least_errors: float = 4.0
    least_wait: int = 100
    few_rows: int = 20
    few_rows_ratio: float = 10.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where the loss has risen for good."""
        up = rise(history)
        if up.rows == 0 or len(history.profile.optimizers) > 1:
            return None
        leapt = self._leapt(history, up)
        receding = up.receding or (leapt and self._comes_down(history, up))
        if receding and not (history.finished or (leapt and self._has_waited(history))):
            return None
        rose = self._rose_at_once(up) if up.rows < self.few_rows else self._rose(up)
        if not (leapt or (rose and not up.receding)):
            return None
        if not up.broke and (self._holds(history, leapt) or self._follows(history, up)):
            return None
        best = min(up.best, up.start) if leapt else up.best
        comes = "is not down yet" if receding else "does not come down"
        ended = "and then ceased to be finite" if up.broke else f"and {comes}"
        return self.finding(
            history,
            0.95 if up.broke or up.height > 2 * abs(up.start) else 0.8,
            f"the loss rose from {best:.4g} to {up.now:.4g} {ended}",
            evidence=(
                Evidence("level of the loss now", up.now, self.least_ratio * abs(best)),
                Evidence("rise", up.height, self.least_errors * up.error, unit="loss"),
            ),
        )

    def _comes_down(self, history: History, up: Rise) -> bool:
        """Whether a loss that leapt at the start is on its way down in the last half of the run."""
        return trend(finite_values(history[LOSS])[-(up.rows // 2) :]).falling

    def _has_waited(self, history: History) -> bool:
        return history.step >= max(self.least_wait, patience(history))

    def _rose(self, up: Rise) -> bool:
        size = max(
            (self.least_ratio - 1) * abs(up.best),
            self.least_share_of_start * abs(up.start),
            self.least_errors * (up.deviation if up.signed else up.error),
        )
        return up.height > size and (up.held or up.broke)

    def _holds(self, history: History, leapt: bool) -> bool:
        """Whether validation is as good as ever, and no worse than guessing where the loss is."""
        validation, chance = history[VALIDATION_LOSS].finite.values, chance_loss(history)
        if leapt and chance is not None and len(validation) and validation[-1] > chance:
            return False
        return validation_holds(history)

    def _follows(self, history: History, up: Rise) -> bool:
        """Whether the loss may have risen with its targets: they move, and it did not explode."""
        return target_moves(history) and up.explosion_step is None

    def _leapt(self, history: History, up: Rise) -> bool:
        """Whether the loss began at that of guessing and is far above it now.

        A leap at the first step leaves only noise behind it, in which no level shows it: so the
        last quarter of the run counts, and the noise of the whole.
        """
        chance = chance_loss(history)
        if chance is None or chance <= 0 or not 0 < up.start < self.least_ratio * chance:
            return False
        last = history[LOSS].finite.tail(max(1, up.rows // 4)).values
        above = min(up.now, float(np.median(last))) - max(chance, up.start)
        error = min(up.error, 1.77 * up.deviation / len(last) ** 0.5)
        return bool(above > max((self.least_ratio - 1) * chance, self.least_errors * error))

    def _rose_at_once(self, up: Rise) -> bool:
        size = max(abs(up.start), abs(up.best))
        return size > 0 and up.height > (self.few_rows_ratio - 1) * size
