"""LP701: cross-entropy is given probabilities, and applies softmax to them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.derived import derived
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.tape import PASSING_OPERATIONS, Operand, Operation, Tape

_SCALING = frozenset({"mul", "multiply", "div", "truediv", "imul", "itruediv"})
_SOFTMAXES = frozenset({"softmax", "softmin", "gumbel_softmax"})
_RESOLUTION = {"float16": 1e-2, "bfloat16": 4e-2}


@dataclass(frozen=True)
class SoftmaxBeforeCrossEntropy(Rule):
    """Cross-entropy is given probabilities, and applies softmax to them again.

    What it detects:
        The input of ``cross_entropy`` (or of a ``log_softmax``) came out of a softmax, or its rows
        are non-negative and sum to 1 however they were made. Module and functional calls, views,
        transpositions and dropout in between make no difference. Probabilities that were multiplied
        by a number first are reported as likely, not as certain.

    Why it matters:
        The logits are confined to [0, 1]. With K classes the loss cannot fall below
        ln(1 + (K − 1)/e), which is 1.46 for ten, and gradients shrink up to K-fold.

    Example:
        >>> from lightning_plateau.testing import history
        >>> logits = Operand("other", shape=(8, 10))
        >>> softmax = Operation(0, "softmax", "net.3", (logits,), (8, 10))
        >>> made = Operand("operation", 0, shape=(8, 10))
        >>> loss = Operation(1, "cross_entropy", "", (made, Operand("batch", 1, "1", (8,))))
        >>> run = history(tapes=[Tape(0, (softmax, loss), root=1)])
        >>> finding = SoftmaxBeforeCrossEntropy().check(run)
        >>> finding.certainty, finding.where
        ('certain', 'net.3 (softmax)')

    Remedies:
        Advice only: return the logits, and apply softmax in ``predict_step``. No optimizer setting
        can mend it.

    Known limitations:
        Without a tape (compiled regions) nothing is seen.

    References:
        Schoop et al., 2021, UMLAUT (CHI). Zhang et al., 2018, An Empirical Study on TensorFlow
        Program Bugs (ISSTA).
    """

    code: ClassVar[str] = "LP701"
    name: ClassVar[str] = "softmax-before-cross-entropy"
    explains: ClassVar = (
        "LP104",
        "LP302",
        "LP306",
        "LP401",
        "LP403",
        "LP405",
        "LP406",
        "LP407",
        "LP414",
        "LP501",
        "LP502",
        "LP801",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = (
        "scores confined to [0, 1] put a floor under the loss and shrink the gradients, up to as "
        "many times as there are classes"
    )

    row_sum_error: float = 1e-3

    def check(self, history: History) -> Finding | None:
        """Return the fault where cross-entropy is given probabilities."""
        for tape in history.tapes:
            for operation in _normalizing(tape):
                finding = self._judge(history, tape, operation)
                if finding is not None:
                    return finding
        return None

    def _judge(self, history: History, tape: Tape, operation: Operation) -> Finding | None:
        given = operation.operands[0]
        classes = given.shape[1] if len(given.shape) > 1 else 0
        error = given.statistics.get("row_sum_error", float("inf"))
        source, scaled = _softmax_behind(tape, given)
        if source is None and not (classes > 1 and self._are_probabilities(given)):
            return None
        shown = (
            f"its rows sum to 1 (max |Σ−1| = {error:.0e})" if error < 0.05 else "it is a softmax"
        )
        made_by = source or tape.origin(given)
        where = made_by.site if made_by is not None else operation.site
        return self.finding(
            history,
            0.8 if scaled else 1.0,
            f"{operation.name} received probabilities, not logits: {shown} over {classes} classes; "
            f"they come from {where} and softmax is applied to them again",
            evidence=(
                Evidence("|Σ over classes − 1|", error, self.row_sum_error, where)
                if error < 0.05
                else Evidence("softmax before the loss", 1.0, 0.0, where),
            ),
            fix="return the logits: leave softmax out of forward, apply it in predict_step only",
            where=where,
            step=tape.step,
        )

    def _are_probabilities(self, given: Operand) -> bool:
        limit = _RESOLUTION.get(given.dtype, self.row_sum_error)
        seen = given.statistics
        return (
            seen.get("row_sum_error", float("inf")) <= limit
            and seen.get("minimum", -1.0) >= 0.0
            and seen.get("maximum", 2.0) <= 1.0 + limit
        )


@derived
def _normalizing(tape: Tape) -> list[Operation]:
    """Return the operations on the way to the loss that apply a softmax to logits."""
    known = tape.root is not None and 0 <= tape.root < len(tape)
    among = tape.ancestors(tape.operations[tape.root or 0])[::-1] if known else tape.operations
    return [o for o in among if o.name in {"cross_entropy", "log_softmax"} and o.operands]


def _softmax_behind(tape: Tape, operand: Operand) -> tuple[Operation | None, bool]:
    """Return the softmax that made ``operand``, and whether a factor came between."""
    operation = tape.origin(operand, PASSING_OPERATIONS)
    scaled = False
    while operation is not None and operation.name in _SCALING and _by_one_number(operation):
        scaled = True
        operation = tape.origin(operation.operands[0], PASSING_OPERATIONS)
    found = operation is not None and operation.name in _SOFTMAXES
    return (operation, scaled) if found else (None, False)


def _by_one_number(operation: Operation) -> bool:
    return bool(operation.operands) and all(
        all(extent == 1 for extent in operand.shape) for operand in operation.operands[1:]
    )
