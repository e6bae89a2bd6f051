"""LP609: the scale of a batch norm has shrunk to nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.columns import first_known, last_known
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import computing
from lightning_plateau.core.normalization import BatchNormCall, batch_norm_calls
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import INITIAL_NORMS, PARAMETER_NORMS
from lightning_plateau.core.tape import ACTIVATIONS, PASSING_OPERATIONS, Tape

_SUMS = frozenset({"add", "iadd", "radd"})


@dataclass(frozen=True)
class BatchNormScaleCollapsed(Rule):
    """The scale γ of a batch norm has shrunk to next to nothing.

    What it detects:
        A batch norm whose γ (root mean square over channels) is a twentieth or less of what it
        began with. Scales that began at zero, as the last ones of residual branches do, and
        branches beside a way around them are left alone.

    Why it matters:
        What comes out is the bias alone, whatever goes in: signal and gradient end there.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> given, scale = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="bn.weight")
        >>> tape = Tape(0, (Operation(0, "batch_norm", "bn", (given, scale), (8, 4)),), root=0)
        >>> series = {
        ...     INITIAL_NORMS: {"bn.weight": [2.0]},
        ...     PARAMETER_NORMS: {"bn.weight": [1.0, 0.02]},
        ... }
        >>> BatchNormScaleCollapsed().check(history(series, tapes=[tape])).message
        'the scale of the batch norm bn has shrunk from 1 to 0.01: 1 of 1 batch norms passes
        hardly anything'

    Remedies:
        Advice only: no weight decay on γ and biases, a lower learning rate; put γ back to 1.

    Known limitations:
        A norm before another one may shrink without harm, which is why this is only said while
        training fails. Channels are judged together: half of them may be gone unnoticed.

    References:
        Ioffe and Szegedy, 2015, Batch Normalization (ICML). Goyal et al., 2017, Accurate, Large
        Minibatch SGD: γ that begins at zero.
    """

    code: ClassVar[str] = "LP609"
    name: ClassVar[str] = "batch-norm-scale-collapsed"
    requires: ClassVar = (PARAMETER_NORMS, INITIAL_NORMS)
    explains: ClassVar = (
        "LP302",
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "a scale of zero lets only the bias through, whatever goes in"

    most_left: float = 0.05
    next_to_nothing: float = 0.01
    least_start: float = 1e-3

    def check(self, history: History) -> Finding | None:
        """Return the fault at the scale that has shrunk most."""
        tape = history.last_tape
        if tape is None:
            return None
        calls = {call.scale: call for call in batch_norm_calls(tape) if call.scale}
        shares = self._shares(history)
        left = {
            name: shares[name]
            for name, call in calls.items()
            if shares.get(name, math.inf) <= self.most_left and not _beside_a_way_around(tape, call)
        }
        if not left:
            return None
        worst = min(left, key=lambda name: left[name])
        root = math.sqrt(max(1, calls[worst].channels))
        first = history[INITIAL_NORMS].column(worst).finite.last / root
        passes = "passes" if len(left) == 1 else "pass"
        return self.finding(
            history,
            0.85 if left[worst] <= self.next_to_nothing else 0.65,
            f"the scale of the batch norm {calls[worst].name} has shrunk from {first:.3g} to "
            f"{first * left[worst]:.3g}: {len(left)} of {len(calls)} batch norms {passes} hardly "
            "anything",
            evidence=(Evidence("scale over its start", left[worst], self.most_left, worst),),
            fix="take the weights and biases of batch norms out of weight decay (a parameter group "
            "with weight_decay=0), and lower the learning rate",
            where=worst,
        )

    def _shares(self, history: History) -> Mapping[str, float]:
        """Return the share of each parameter's norm that is left, unless it began at nothing."""
        now = last_known(history[PARAMETER_NORMS])
        began = first_known(history[INITIAL_NORMS])
        return {
            name: now[name] / first
            for name, first in began.items()
            if first > self.least_start and name in now
        }


def _beside_a_way_around(tape: Tape, call: BatchNormCall) -> bool:
    """Whether a norm's output, but for activations, is added to something else."""
    through = PASSING_OPERATIONS | ACTIVATIONS
    made = {call.operation.index}
    for other in computing(tape):
        own = [o for o in other.operands if o.source == "operation" and o.index in made]
        if not own:
            continue
        if other.name in _SUMS and len(other.operands) > 1:
            return True
        if other.name in through or "pool" in other.name:
            made.add(other.index)
    return False
