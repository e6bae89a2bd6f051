"""LP802: the model is too weak, or held too tight, for the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.fitting import fitting, label_test, too_few_parameters
from lightning_plateau.core.generalization import generalization, validation_falls
from lightning_plateau.core.history import History
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    BATCH_SIZE,
    EXPERIMENT_OVERFIT,
    LOSS,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
    VALIDATION_LOSS,
)
from lightning_plateau.core.updates import weight_updates


@dataclass(frozen=True)
class Underfitting(Rule):
    """The model fits neither the training set nor the validation set.

    What it detects:
        The loss stays high beside that of guessing and does not fall any more, training and
        validation agree within a tenth, and the weights do move by ordinary updates: the optimizer
        works, but what it works on cannot do better. Where one batch was repeated
        (overfit-one-batch), a tenth of its loss must have gone; a model that cannot even do that
        has another fault, unless it has fewer parameters than the batch has samples.

    Why it matters:
        More training does not help; the model needs more capacity, better features or less
        regularization, or the labels hold no information.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 10))
        >>> sides = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,)))
        >>> tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
        >>> signals = {UPDATE_RATIOS: {"fc.weight": [1e-3] * 5}, VALIDATION_LOSS: [2.2] * 5}
        >>> run = history(signals, loss=[2.2] * 200, every=40, tapes=[tape])
        >>> Underfitting().check(run).message
        'training (2.2) and validation (2.2) both stay at 96 % of the loss of guessing'

    Remedies:
        Advice only: a larger model, better features, less weight decay and dropout. Try first
        whether it can overfit a single batch.

    Known limitations:
        A task whose labels are mostly noise looks the same, which is why the finding is never more
        than possible.

    References:
        Goodfellow et al., 2016, Deep Learning, chapters 5 and 11. Karpathy, 2019, A Recipe for
        Training Neural Networks.
    """

    code: ClassVar[str] = "LP802"
    name: ClassVar[str] = "underfitting"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (
        LOSS,
        VALIDATION_LOSS,
        UPDATE_RATIOS,
        PARAMETER_NORMS,
        EXPERIMENT_OVERFIT,
        BATCH_SIZE,
    )
    explains: ClassVar = ("LP306", "LP401", "LP807", "LP808")
    why: ClassVar[str] = "the optimizer works, but what it works on cannot do better"

    high: float = 0.6
    most_gap: float = 0.1
    least_update: float = 1e-5
    largest_update: float = 0.1
    least_path: float = 0.2
    least_learned: float = 0.1
    most_fall: float = 0.05

    def check(self, history: History) -> Finding | None:
        """Return the fault where both losses stay high in spite of updates."""
        chance, moved = chance_loss(history), weight_updates(history)
        beside, gone = generalization(history), progress(history[LOSS])
        if chance is None or chance <= 0 or moved is None or not len(beside) or not gone.rows:
            return None
        ordinary = self.least_update < moved.typical and moved.peak < self.largest_update
        if not ordinary or moved.typical * gone.rows < self.least_path:
            return None
        validation = float(np.median(beside.validation[-3:]))
        if abs(validation - gone.now) > self.most_gap * abs(gone.now):
            return None
        share = gone.now / chance
        still_falling = -gone.slope * gone.rows > self.most_fall or (
            validation_falls(history) and not history.finished
        )
        if share < self.high or still_falling or self._refuted(history):
            return None
        tried = fitting(history)
        return self.finding(
            history,
            0.45 if tried is None else 0.6,
            f"training ({gone.now:.3g}) and validation ({validation:.3g}) both stay at "
            f"{100 * share:.0f} % of the loss of guessing",
            evidence=(
                Evidence("loss beside that of guessing", share, self.high),
                Evidence(UPDATE_RATIOS.tag, moved.typical, None, "typical layer"),
            ),
            fix=("" if tried is not None else _FIRST)
            + "add width, depth or features, or lower weight decay and dropout",
        )

    def _refuted(self, history: History) -> bool:
        """Whether experiments say that it is the model's wiring, or the labels."""
        tried, labels = fitting(history), label_test(history)
        unfit = tried is not None and tried.learned < self.least_learned
        unfit = unfit and not too_few_parameters(history)
        return unfit or (labels is not None and labels.informative is False)


_FIRST = (
    "make sure that the model can overfit a single batch (lightning-plateau check, or "
    "Trainer(overfit_batches=1)); then "
)
