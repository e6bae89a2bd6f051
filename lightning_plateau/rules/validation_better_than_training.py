"""LP804: validation is better than training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.generalization import generalization
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.penalty import penalty
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS
from lightning_plateau.core.tape import Tape

_CHANCE = frozenset(
    ["bernoulli", "rand", "randn", "rand_like", "randn_like", "normal", "randperm", "multinomial"]
)


@dataclass(frozen=True)
class ValidationBetterThanTraining(Rule):
    """Validation is better than training.

    What it detects:
        A validation loss that is lower by a tenth and more than the training losses before it and
        after it, at the last three validations and more; where neither dropout nor noise, label
        smoothing, a penalty or a second loss makes training harder.

    Why it matters:
        The two losses are not of one kind: validation samples may be known from training, easier,
        or few, or the two are not computed alike.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),))
        >>> sides = (Operand("operation", 0), Operand("batch", 1, "1"))
        >>> tape = Tape(0, (fc, Operation(1, "mse_loss", "", sides)), root=1)
        >>> run = history({VALIDATION_LOSS: [0.5] * 6}, loss=[1.0] * 120, every=20, tapes=[tape])
        >>> ValidationBetterThanTraining().check(run).message
        'validation (0.5) stays 50 % below training (1) for 5 validations'

    Remedies:
        Advice only: compare the two sets and the two computations of the loss.

    Known limitations:
        Augmentation in the data set cannot be seen, and makes the same difference: so this is a
        remark, not an alarm.

    References:
        Goodfellow et al., 2016, Deep Learning, chapter 7 (noise that is only there in training).
    """

    code: ClassVar[str] = "LP804"
    name: ClassVar[str] = "validation-better-than-training"
    severity: ClassVar[Severity] = Severity.INFO
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS, VALIDATION_LOSS)
    why: ClassVar[str] = "the two losses are not of one kind, so that neither tells of the other"

    least_validations: int = 3
    least_gap: float = 0.1

    def check(self, history: History) -> Finding | None:
        """Return a remark where the validation loss stays below that of training."""
        tape, beside = history.last_tape, generalization(history)
        if tape is None or len(beside) <= self.least_validations or _harder(tape):
            return None
        around = np.minimum(beside.training[:-1], beside.training[1:])
        gaps = [
            1.0 - validation / training if training > 0 <= validation else 0.0
            for validation, training in zip(
                beside.validation.tolist()[:-1], around.tolist(), strict=True
            )
        ]
        lower = [gap > self.least_gap for gap in gaps]
        kept = lower[::-1].index(False) if False in lower else len(lower)
        if kept < self.least_validations:
            return None
        training, validation = float(around[-1]), float(beside.validation[-2])
        return self.finding(
            history,
            0.6,
            f"validation ({validation:.3g}) stays {100 * gaps[-1]:.0f} % below training "
            f"({training:.3g}) for {kept} validations",
            evidence=(Evidence("share by which validation is lower", gaps[-1], self.least_gap),),
            fix="check that no validation sample is in the training set, and that both losses are "
            "computed alike",
        )


def _harder(tape: Tape) -> bool:
    """Whether something on the tape makes training harder than validation."""
    if len(comparisons(tape)) != 1 or penalty(tape) is not None:
        return True
    return any(
        operation.name in _CHANCE
        or ("dropout" in operation.name and operation.attributes.get("p") not in (0, 0.0))
        or operation.attributes.get("dropout_p") not in (None, 0, 0.0)
        or operation.attributes.get("label_smoothing") not in (None, 0, 0.0)
        for operation in tape
    )
