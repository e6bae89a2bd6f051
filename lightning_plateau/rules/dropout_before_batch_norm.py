"""LP606: dropout before a batch norm shifts the variance that its statistics rest on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_plateau.core.evaluation_gap import evaluation_gap
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.normalization import BatchNormCall, batch_norm_calls
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS
from lightning_plateau.core.tape import (
    ACTIVATIONS,
    LINEAR_OPERATIONS,
    SHAPE_OPERATIONS,
    Operation,
    Tape,
)

_DROPOUTS = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"})
_DIRECT = SHAPE_OPERATIONS | ACTIVATIONS
_THROUGH = _DIRECT | LINEAR_OPERATIONS


@dataclass(frozen=True)
class DropoutBeforeBatchNorm(Rule):
    """Dropout before a batch norm shifts the variance that its running statistics rest on.

    What it detects:
        A dropout whose output reaches a batch norm through activations and at most one layer, in a
        run whose validation shows less than half of what the first epoch has learned. Where nothing
        but an activation lies between them it is told as a remark in any run.

    Why it matters:
        Dropout raises the variance of what it lets through, in training only. The running
        statistics learn that variance, and evaluation divides by it.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> weight = Operand("parameter", name="fc.weight", shape=(4, 4))
        >>> fc = Operation(0, "linear", "fc", (Operand("batch", 0, "0"), weight), (8, 4))
        >>> mode = {"p": 0.5, "training": True}
        >>> drop = Operation(1, "dropout", "drop", (Operand("operation", 0),), attributes=mode)
        >>> norm = Operation(2, "batch_norm", "bn", (Operand("operation", 1, shape=(8, 4)),))
        >>> run = history(tapes=[Tape(0, (fc, drop, norm), root=2)])
        >>> DropoutBeforeBatchNorm().check(run).message
        'dropout of 0.5 (drop) comes before the batch norm bn'

    Remedies:
        Advice only: dropout after the last batch norm, or less of it.

    Known limitations:
        Many networks of such blocks do well: layers that average over many units even the shift
        out. Without a loss of guessing, how validation suffers is not known.

    References:
        Li et al., 2019, Understanding the Disharmony between Dropout and Batch Normalization by
        Variance Shift (CVPR).
    """

    code: ClassVar[str] = "LP606"
    name: ClassVar[str] = "dropout-before-batch-norm"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS, VALIDATION_LOSS)
    explains: ClassVar = ("LP602",)
    why: ClassVar[str] = "running statistics learn a variance that evaluation does not have"

    least_rate: float = 0.2
    least_share: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault, or the remark, at the strongest dropout before a batch norm."""
        tape = history.last_tape
        if tape is None:
            return None
        pairs = [
            (dropout, call, direct)
            for call in batch_norm_calls(tape)
            if call.training
            for dropout, direct in [_dropout_before(tape, call)]
            if dropout is not None and _rate(dropout) >= self.least_rate
        ]
        gap = evaluation_gap(history)
        suffers = gap is not None and gap.share >= self.least_share
        judged = pairs if suffers else [pair for pair in pairs if pair[2]]
        if not judged:
            return None
        dropout, call, _ = max(judged, key=lambda pair: _rate(pair[0]))
        rate = _rate(dropout)
        found = self.finding(
            history,
            0.62 if suffers else 0.6,
            f"dropout of {rate:g} ({dropout.layer or dropout.name}) comes before the batch norm "
            f"{call.name}",
            evidence=(Evidence("rate of dropout", rate, self.least_rate, call.name),),
            fix="put the dropout after the last batch norm and its activation",
            where=call.name,
            step=tape.step,
        )
        return found if suffers else replace(found, severity=Severity.INFO)


def _rate(dropout: Operation) -> float:
    """Return the share that a dropout sets to zero; 0 where it is off or unknown."""
    rate = dropout.attributes.get("p", 0.5)
    if dropout.attributes.get("training") is False or not isinstance(rate, int | float):
        return 0.0
    return float(rate) if 0.0 <= rate < 1.0 else 0.0


def _dropout_before(tape: Tape, call: BatchNormCall) -> tuple[Operation | None, bool]:
    """Return the dropout before a norm, and whether no layer lies between them."""
    operation, layers = tape.producer(call.given), 0
    while operation is not None and layers <= 1:
        if operation.name in _DROPOUTS:
            return operation, layers == 0
        if not operation.operands or not (operation.name in _THROUGH or "pool" in operation.name):
            break
        layers += operation.name in LINEAR_OPERATIONS
        operation = tape.producer(operation.operands[0])
    return None, False
