"""LP808: the loss stays far above that of guessing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.guess_ceiling import guess_ceiling
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.learning_rates import since_warm_up, warming_up
from lightning_plateau.core.patience import patience
from lightning_plateau.core.progress import MEDIAN_ERROR, Progress, progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LEARNING_RATES, LOSS, TARGETS
from lightning_plateau.core.trend import finite_values, value_noise


@dataclass(frozen=True)
class WorseThanGuessing(Rule):
    """The loss stays above that of guessing.

    What it detects:
        After the first epoch and a sixth of the planned run (500 steps at most) the loss is still a
        tenth and more above what one constant answer would score: ln K for K classes, the variance
        of the targets for a squared error, at most their standard deviation for an absolute one;
        times the number of terms where the loss is a sum, whatever it is multiplied by. The noise
        of the loss is allowed for, and a loss that will be below by the planned end at its present
        pace is left in peace.

    Why it matters:
        It may fall, and still the network does worse than one that ignores its input: a loss that
        comes down from very high looks like learning.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 10))
        >>> sides = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,)))
        >>> summed = {"reduction": "sum"}
        >>> loss = Operation(1, "cross_entropy", "", sides, (), attributes=summed)
        >>> run = history(
        ...     loss=[900.0 - step for step in range(100)],
        ...     tapes=[Tape(0, (fc, loss), root=1)],
        ...     epoch_ends=[50, 100],
        ...     finished=True,
        ... )
        >>> WorseThanGuessing().check(run).message
        'after 100 steps the loss is 813, 44.1 times that of one constant answer (18.42)'

    Remedies:
        None of its own: the findings above it name the cause.

    Known limitations:
        What one constant answer scores must be known from the loss call: a loss of several parts, a
        weighted one, and most contrastive ones leave the rule silent; so do several optimizers.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks (the input-independent baseline).
    """

    code: ClassVar[str] = "LP808"
    name: ClassVar[str] = "worse-than-guessing"
    symptom: ClassVar[bool] = True
    requires: ClassVar = (LOSS, LEARNING_RATES, TARGETS)
    explains: ClassVar = ("LP401", "LP403", "LP404", "LP405")
    why: ClassVar[str] = "a network that ignored its input and gave one answer would do better"

    minimum_steps: int = 50
    least_excess: float = 0.1
    certain_errors: float = 3.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where the loss is above that of guessing, and will not be below soon."""
        ceiling = guess_ceiling(history)
        if ceiling is None or not history.epoch_ends or len(history.profile.optimizers) > 1:
            return None
        young = history.step < max(self.minimum_steps, patience(history))
        if young or (warming_up(history) and not history.finished):
            return None
        losses = history[LOSS].since(since_warm_up(history))
        gone = progress(losses)
        if gone.rows < self.minimum_steps or not self._surely_above(losses, gone, ceiling):
            return None
        if self._on_its_way(history, gone, ceiling):
            return None
        return self._report(history, gone, ceiling)

    def _surely_above(self, losses: Series, gone: Progress, ceiling: float) -> bool:
        # What the loss did by chance on its way down from far above is not what it does now.
        last = finite_values(losses)[-max(1, gone.rows // 4) :]
        noise = min(gone.noise, value_noise(last)) if len(last) > 2 else gone.noise
        error = MEDIAN_ERROR * noise / math.sqrt(len(last))
        return gone.now - self.certain_errors * error > (1 + self.least_excess) * ceiling

    def _on_its_way(self, history: History, gone: Progress, ceiling: float) -> bool:
        """Whether the loss will be below the ceiling by the planned end, or in as many steps."""
        if history.finished:
            return False
        planned = history.profile.planned_steps
        left = gone.rows if planned is None else max(0, planned - history.step)
        return gone.now + gone.slope * gone.scale * left < ceiling

    def _report(self, history: History, gone: Progress, ceiling: float) -> Finding:
        return self.finding(
            history,
            0.9,
            f"after {history.step} steps the loss is {gone.now:.4g}, {gone.now / ceiling:.3g} "
            f"times that of one constant answer ({ceiling:.4g})",
            evidence=(
                Evidence("loss now", gone.now, ceiling),
                Evidence("fall since the start", gone.fall),
            ),
        )
