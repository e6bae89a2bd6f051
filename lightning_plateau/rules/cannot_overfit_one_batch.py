"""LP803: not even one batch can be learned by heart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.fitting import Fitting, fitting, too_few_parameters
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import BATCH_SIZE, EXPERIMENT_OVERFIT, LOSS


@dataclass(frozen=True)
class CannotOverfitOneBatch(Rule):
    """The model cannot learn one batch by heart, whatever optimizer tries.

    What it detects:
        The experiment overfit-one-batch repeated a single batch on a copy of the model, with the
        run's own optimizer and with Adam at learning rates from 0.001 to 0.1, and the loss fell by
        less than a tenth each time; or it fell no further than with zeros in place of the inputs.
        A model of fewer parameters than a batch has samples is too small for that: see LP802.

    Why it matters:
        A few samples can always be learned by heart. Where they are not, it is no matter of data,
        patience or learning rate: what the loss compares does not depend on the weights as it
        should.

    Example:
        >>> from lightning_plateau.testing import history
        >>> tried = {EXPERIMENT_OVERFIT: {"before": [2.31], "own": [2.3], "adam": [2.29]}}
        >>> CannotOverfitOneBatch().check(history(tried)).message
        "the loss on one batch, repeated with Adam and with the run's own optimizer, only fell
        from 2.31 to 2.29"

    Remedies:
        Advice only. Follow one sample through the model: print shapes, the range of the inputs, the
        outputs for two different samples, and the gradient of each parameter.

    Known limitations:
        A loss that is already as low as it can be, or that a large constant hides, cannot fall
        either; the rule speaks only where the training fails. Weights that too long steps have
        spoilt before the experiment look the same.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks. Schoop et al., 2021, UMLAUT (CHI).
    """

    code: ClassVar[str] = "LP803"
    name: ClassVar[str] = "cannot-overfit-one-batch"
    requires: ClassVar = (LOSS, EXPERIMENT_OVERFIT, BATCH_SIZE)
    explains: ClassVar = ("LP306", "LP401", "LP405", "LP407", "LP802", "LP807", "LP808")
    why: ClassVar[str] = "what cannot be learned by heart cannot be learned at all"

    least_fall: float = 0.1
    hardly_any_fall: float = 0.02
    already_learned: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault where no attempt lowered the loss of one batch."""
        tried, chance = fitting(history), chance_loss(history)
        if tried is None or not tried.learned < self.least_fall or too_few_parameters(history):
            return None
        if chance is not None and tried.before < self.already_learned * chance:
            return None
        return self._report(history, tried)

    def _report(self, history: History, tried: Fitting) -> Finding:
        return self.finding(
            history,
            # That something is wrong is sure; what it is any other cause tells better.
            0.59 if tried.learned < self.hardly_any_fall else 0.5,
            "the loss on one batch, repeated with Adam and with the run's own optimizer, only "
            f"fell from {tried.before:.4g} to {tried.after:.4g}"
            + ("" if tried.best < self.least_fall else ", as with zeros in place of the inputs"),
            evidence=(
                Evidence("fall with the run's own optimizer", tried.own, self.least_fall),
                Evidence("fall of the best attempt", tried.best, self.least_fall),
                *(
                    ()
                    if math.isnan(tried.blind)
                    else (Evidence("fall without the inputs", tried.blind),)
                ),
            ),
            fix="look at the model and the loss, not at the data: print the outputs of two "
            "different samples, and the gradient of each parameter after loss.backward()",
        )
