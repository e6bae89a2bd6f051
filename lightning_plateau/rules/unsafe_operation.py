"""LP207: an operation works at the edge of its domain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.breakdown import breakdown, broke_suddenly
from lightning_plateau.core.domain import LOGARITHMS, Brink, brink
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import computing
from lightning_plateau.core.objective import DIFFERENCES
from lightning_plateau.core.origin import replayed
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    DATA_NON_FINITE,
    EXPERIMENT_REPLAY_BATCH,
    GRADIENT_NORM,
    LEARNING_RATES,
    LOSS,
    PARAMETER_NORMS,
)
from lightning_plateau.core.tape import Operation, Tape

_WORDS = {
    "near": "next to the edge of its domain",
    "at": "at the edge of its domain, where its derivative is infinite",
    "beyond": "outside of its domain",
}
_SURENESS = {"beyond": 2, "at": 1, "near": 0}
EARLIEST = 3
"""Steps at the very beginning that may have been left out."""
_PROBABILITIES = frozenset({"sigmoid", "softmax", "expit"})
_WITH_LOGITS = (
    "log_softmax, logsigmoid, or a loss that takes logits; or torch.log(x.clamp_min(1e-8))"
)
_OVERFLOWING = frozenset({"exp", "expm1", "cosh", "sinh"})


@dataclass(frozen=True)
class UnsafeOperation(Rule):
    """An operation works at the edge of its domain.

    What it detects:
        In a training that ceased to be finite, on a forward pass up to then: a logarithm, root,
        division, power, exponential or arc function on the way from the parameters to the loss, one
        of whose inputs lay at the edge of where it has a finite value and derivative, beyond it or
        next to it; or, where no pass was seen from the step that broke, and weights and gradients
        were sound before it, the logarithm of a sigmoid's or softmax's output. ``sqrt(0)`` is 0,
        but its derivative is infinite; ``torch.where`` does not help, because infinity times zero
        is NaN in the branch that was not chosen. Norms of torch have their derivative at zero in
        order and are not meant.

    Why it matters:
        One input at the edge makes every gradient NaN, though the loss may look sound.

    Example:
        >>> import math
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> x = Operand("parameter", name="w", statistics={"minimum": 0.0, "maximum": 2.0})
        >>> sqrt = Operation(0, "sqrt", operands=(x,), statistics={"minimum": 0.0})
        >>> tape = Tape(0, (sqrt,), root=0)
        >>> run = history({GRADIENT_NORM: [math.nan]}, loss=[1.4], tapes=[tape])
        >>> UnsafeOperation().check(run).message
        'sqrt is given 0 at step 0: at the edge of its domain, where its derivative is infinite'

    Remedies:
        skip-step leaves such steps out; the cure is an epsilon in the code.

    Known limitations:
        Only operands of up to a million elements on sampled steps are looked at. Where training
        broke between two of them, an input next to the edge is a suspicion, no more.

    References:
        Zhang et al., 2019, Detecting Numerical Bugs in Neural Network Architectures (ESEC/FSE). The
        PyTorch documentation: Autograd mechanics, gradients for non-differentiable functions.
    """

    code: ClassVar[str] = "LP207"
    name: ClassVar[str] = "unsafe-operation"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (
        LOSS,
        GRADIENT_NORM,
        LEARNING_RATES,
        PARAMETER_NORMS,
        DATA_NON_FINITE,
        EXPERIMENT_REPLAY_BATCH,
    )
    explains: ClassVar = (
        "LP201",
        "LP202",
        "LP203",
        "LP204",
        "LP205",
        "LP301",
        "LP402",
        "LP404",
        "LP605",
    )
    remedies: ClassVar = ("skip-step",)
    why: ClassVar[str] = "one input at the edge makes every gradient NaN or infinite"

    def check(self, history: History) -> Finding | None:
        """Return the fault where an operation was at its edge when training broke."""
        return self._on_a_tape(history) or self._on_a_replay(history) or self._exposed(history)

    def _exposed(self, history: History) -> Finding | None:
        """Return the logarithm of what rounds to 0, where training broke between two tapes."""
        tapes = [tape for tape in history.tapes if tape.finite]
        found = next(_exposed(tapes[-1]), None) if tapes and broke_suddenly(history) else None
        if found is None:
            return None
        logarithm, squashed = found
        return self.finding(
            history,
            0.75,
            f"{logarithm.site} is given what a {squashed.name} makes, which rounds to exactly 0 or "
            f"1 where its input is large; the loss broke at step {breakdown(history).step}",
            evidence=(Evidence(f"{squashed.name} before {logarithm.name}", 1.0, 0.0),),
            fix=_WITH_LOGITS,
            where=logarithm.site,
            step=breakdown(history).step,
        )

    def _on_a_replay(self, history: History) -> Finding | None:
        found = replayed(history, "backward")
        if found is None:
            return None
        step, place = found
        return self.finding(
            history,
            0.8,
            f"the derivative that {place} gives is NaN, as a replay at step {step} shows",
            evidence=(Evidence("derivative that is not finite", 1.0, 0.0, place),),
            fix="add an epsilon to what goes in, or clamp it; torch.where does not help",
            where=place,
            step=step,
        )

    def _on_a_tape(self, history: History) -> Finding | None:
        broke = _first_broken(history)
        if broke is None:
            return None
        before = [tape for tape in history.tapes if tape.step <= broke]
        for tape in reversed(before):
            found = max(_brinks(tape), key=_strength, default=None)
            if found is not None:
                return self._report(history, tape, broke, *found)
        return None

    def _report(
        self, history: History, tape: Tape, broke: int, operation: Operation, edge: Brink
    ) -> Finding:
        return self.finding(
            history,
            _confidence(tape, broke, operation, edge),
            f"{operation.site} is given {edge.value:.3g} at step {tape.step}: {_WORDS[edge.reach]}",
            evidence=(
                Evidence(f"input of {operation.name}", edge.value, edge.edge, operation.site),
            ),
            fix=edge.fix,
            where=operation.site,
            step=broke,
        )


def _first_broken(history: History) -> int | None:
    """Return the first step that was not finite; else one that was left out, and has a tape."""
    step = breakdown(history).step
    if step is not None:
        return step
    norms = history[GRADIENT_NORM].steps
    if not len(norms):
        return None
    # The rows of a step that was skipped are left out of the history; its tape is not.
    within = [t.step for t in history.tapes if norms[0] - EARLIEST <= t.step < norms[-1]]
    return next((step for step in within if step not in norms), None)


def _brinks(tape: Tape) -> Iterator[tuple[Operation, Brink]]:
    for operation in computing(tape):
        edge = brink(operation) if operation.requires_grad else None
        if edge is not None:
            yield operation, edge


def _exposed(tape: Tape) -> Iterator[tuple[Operation, Operation]]:
    """Yield each logarithm of a probability, or of 1 less it, with what made the probability."""
    for logarithm in computing(tape):
        if logarithm.name not in LOGARITHMS or not logarithm.requires_grad:
            continue
        made = tape.origin(logarithm.operands[0]) if logarithm.operands else None
        if made is not None and made.name in DIFFERENCES and len(made.operands) == 1:
            made = tape.origin(made.operands[0])
        if made is not None and made.name in _PROBABILITIES:
            yield logarithm, made


def _strength(found: tuple[Operation, Brink]) -> tuple[int, int]:
    operation, edge = found
    return _SURENESS[edge.reach], -operation.index


def _confidence(tape: Tape, broke: int, operation: Operation, edge: Brink) -> float:
    """Return how sure it is that the operation broke the training."""
    exact = edge.reach != "near" and operation.name not in _OVERFLOWING
    if tape.step != broke:
        return 0.6 if exact else 0.5
    if not exact:
        return 0.7
    # A root of 0 breaks the gradients, not the loss; a logarithm of 0 breaks both.
    return 1.0 if operation.statistics.get("non_finite", 0.0) > 0 else 0.95
