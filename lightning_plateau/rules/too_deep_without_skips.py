"""LP805: many layers in a row, and no way around any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called, computing
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import LINEAR_OPERATIONS, RECURRENCES, Operation, Tape

_LAYERS = LINEAR_OPERATIONS | RECURRENCES


@dataclass(frozen=True)
class TooDeepWithoutSkips(Rule):
    """Many layers in a row, and no way around any of them.

    What it detects:
        At least 20 layers with weights of their own that even the shortest way from the data to the
        answers goes through, in a training that fails. Skip connections of any kind (added,
        concatenated, gated) make a way shorter.

    Why it matters:
        Signal and gradient are multiplied layer by layer; plain networks of this depth train worse
        than shallower ones, even on the training set.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> made, given = [], Operand("batch", 0, "0")
        >>> for i in range(24):
        ...     weight = Operand("parameter", name=f"net.{i}.weight")
        ...     made.append(Operation(i, "linear", f"net.{i}", (given, weight)))
        ...     given = Operand("operation", i)
        >>> loss = Operation(24, "mse_loss", "", (given, Operand("batch", 1, "1")))
        >>> run = history(tapes=[Tape(0, (*made, loss), root=24)])
        >>> TooDeepWithoutSkips().check(run).message
        '24 layers lie one behind the other between data and answers, with no way around any'

    Remedies:
        Advice only: add what goes into a block to what comes out of it, or take fewer layers.

    Known limitations:
        Depth alone is no fault: normalization, initialization and width decide with it. So the
        finding is possible, and likely only from 30 layers on.

    References:
        He et al., 2016, Deep Residual Learning for Image Recognition (CVPR). Srivastava et al.,
        2015, Highway Networks.
    """

    code: ClassVar[str] = "LP805"
    name: ClassVar[str] = "too-deep-without-skips"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (LOSS,)
    explains: ClassVar = (
        "LP302",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP501",
        "LP504",
        "LP707",
        "LP802",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "signal and gradient are multiplied layer by layer"

    least_depth: int = 20
    depth_that_is_likely: int = 30

    def check(self, history: History) -> Finding | None:
        """Return the fault where even the shortest way through the network is long."""
        tape = history.last_tape
        depth = _depth(tape, self.least_depth) if tape is not None else 0
        if tape is None or depth < self.least_depth:
            return None
        return self.finding(
            history,
            0.65 if depth >= self.depth_that_is_likely else 0.45,
            f"{depth} layers lie one behind the other between data and answers, "
            "with no way around any",
            evidence=(Evidence("layers on the shortest way", float(depth), self.least_depth),),
            fix="add skip connections: x = x + block(x), every two or three layers",
            step=tape.step,
        )


def _depth(tape: Tape, least: int) -> int:
    """Return over how many layers the shortest way leads from the data to the answers.

    Where that are fewer than ``least``, 0 may stand for it.
    """
    if len(called(tape, _LAYERS)) < least or _skips(tape, least):
        return 0
    depths: dict[int, int] = {}
    used: set[str] = set()
    for operation in computing(tape):
        before = [
            depths[o.index] if o.source == "operation" else 0
            for o in operation.operands
            if o.source == "batch" or (o.source == "operation" and o.index in depths)
        ]
        if before:
            depths[operation.index] = min(before) + _is_new_layer(operation, used)
    answers = [depths.get(one.prediction.index, 0) for one in comparisons(tape)]
    return min(answers, default=0)


def _skips(tape: Tape, least: int) -> bool:
    """Whether the way of the farthest leaps leads from some answers to data over a few layers."""
    for answer in (one.prediction for one in comparisons(tape)):
        operand, layers = answer, 0
        while operand.source == "operation" and layers < least:
            operation = tape.operations[operand.index]
            layers += operation.name in _LAYERS
            given = [o for o in operation.operands if o.source in ("operation", "batch")]
            if not given:
                break
            operand = min(given, key=lambda o: (o.source == "operation", o.index))
        if operand.source == "batch" and layers < least:
            return True
    return False


def _is_new_layer(operation: Operation, used: set[str]) -> bool:
    """Whether ``operation`` uses weights for the first time: a loop over one cell is not depth."""
    names = {o.name for o in operation.operands if o.source == "parameter" and len(o.shape) != 1}
    if not names:
        return False
    new = operation.name in _LAYERS and bool(names - used)
    used |= names
    return new
