"""LP206: activations come near the largest number of their type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.derived import derived
from lightning_plateau.core.domain import largest
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS
from lightning_plateau.core.tape import LINEAR_OPERATIONS, NORMALIZATIONS, Operation, Tape

_MAKERS = LINEAR_OPERATIONS | NORMALIZATIONS | frozenset({"exp", "pow", "square", "mul", "sum"})
"""Operations that make values grow; a mask, which is as large on purpose, comes from others."""


@dataclass(frozen=True)
class NearOverflow(Rule):
    """Activations come near the largest number of their type.

    What it detects:
        In a training that fails: an output of a linear, convolutional or normalization layer, or of
        a product, power or exponential, whose largest value lies beyond half of the largest finite
        number of its type (65,504 for float16).

    Why it matters:
        A little more and it is infinite, and what is computed from it NaN.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Tape
        >>> from lightning_plateau.testing import history
        >>> seen = {"minimum": -100.0, "maximum": 48000.0}
        >>> fc = Operation(0, "linear", "fc", dtype="float16", statistics=seen)
        >>> run = history(loss=[2.3], tapes=[Tape(0, (fc,), root=0)])
        >>> NearOverflow().check(run).message
        'fc (linear) reaches 4.8e+04 at step 0; the largest float16 is 6.55e+04'

    Remedies:
        Advice only: ``precision="bf16-mixed"``; normalization before the layer, or a smaller scale.

    Known limitations:
        Extremes rest on a sample of 16,384 values of each output.

    References:
        Micikevicius et al., 2018, Mixed Precision Training (ICLR). Dehghani et al., 2023, Scaling
        Vision Transformers to 22 Billion Parameters (ICML), on logits that grow.
    """

    code: ClassVar[str] = "LP206"
    name: ClassVar[str] = "near-overflow"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (LOSS, GRADIENT_NORM)
    explains: ClassVar = ("LP201", "LP202", "LP203", "LP204", "LP205", "LP605")
    why: ClassVar[str] = "a little more and it is infinite, and what is computed from it NaN"

    most_share: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault of the output that lies nearest to overflow, of all tapes."""
        found = [(*_nearest(tape), tape.step) for tape in history.tapes]
        share, operation, step = max(found, key=lambda one: one[0], default=(0.0, None, 0))
        if operation is None or share < self.most_share:
            return None
        limit = largest(operation.dtype)
        return self.finding(
            history,
            0.7,
            f"{operation.site} reaches {share * limit:.3g} at step {step}; the largest "
            f"{operation.dtype} is {limit:.3g}",
            evidence=(
                Evidence(
                    "largest |output|", share * limit, self.most_share * limit, operation.site
                ),
            ),
            fix='Trainer(precision="bf16-mixed")'
            if operation.dtype == "float16"
            else "keep the values smaller: normalize before this layer",
            where=operation.site,
            step=step,
        )


@derived
def _nearest(tape: Tape) -> tuple[float, Operation | None]:
    """Return the largest share of a type's range that an output takes up, and the operation."""
    nearest: tuple[float, Operation | None] = (0.0, None)
    for made in called(tape, _MAKERS):
        # What has no gradient is a mask.
        if made.requires_grad and made.dtype.startswith(("float", "bfloat")):
            limit = largest(made.dtype)
            for name in ("minimum", "maximum"):
                share = abs(made.statistics.get(name, 0.0)) / limit
                if nearest[0] < share <= 1.0:
                    nearest = share, made
    return nearest
