"""LP204: an operation of the forward pass makes NaN or infinity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import LEAST_BEFORE, breakdown, broke_suddenly
from lightning_plateau.core.domain import brink, largest
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.origin import broken_operands, first_non_finite, replayed
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    DATA_NON_FINITE,
    EXPERIMENT_REPLAY_BATCH,
    GRADIENT_NORM,
    INITIAL_NORMS,
    LEARNING_RATES,
    LOSS,
    PARAMETER_NORMS,
)
from lightning_plateau.core.tape import CLASS_LOSSES, SOFTMAXES, Operand, Operation, Tape

_SPREADS = frozenset({"std", "var", "std_mean", "var_mean"})
_MEANS = frozenset({"mean", "nanmean", "median", "amax", "amin"})


@dataclass(frozen=True)
class NonFiniteActivations(Rule):
    """An operation of the forward pass makes NaN or infinity.

    What it detects:
        On the forward pass of a sampled step that ended in a non-finite loss, the first operation
        whose output holds NaN or infinity while what it was given did not; or a parameter that held
        NaN or infinity before the first step. A replay of a batch tells as well, where one was made
        and the weights were sound. Where no tape was taken of the step that broke, it is said all
        the same that some operation did, if all was well until then: neither the loss nor the
        gradient nor the learning rate had grown, so the weights were sound, and the data were
        finite. Values that came from the batch are LP102's, and a −inf that masks something is none
        of either.

    Why it matters:
        It is the line to mend: all that is computed from there on is NaN.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> x = Operand("batch", 0, "0", statistics={"minimum": 0.0, "maximum": 1.0})
        >>> bad = {"minimum": -math.inf, "maximum": 0.0, "mean": -math.inf, "non_finite": 1.0}
        >>> log = Operation(0, "log", "net.2", (x,), statistics=bad)
        >>> tape = Tape(0, (log,), root=0)
        >>> run = history(loss=[math.inf], tapes=[tape])
        >>> NonFiniteActivations().check(run).message
        'net.2 (log) makes -inf of finite values (0 to 1) at step 0'

    Remedies:
        skip-step leaves such steps out; the cure is in the code.

    Known limitations:
        Only the forward passes of sampled steps are seen, the first few and one in so many. Where
        training broke between two of them, and the weights with it, the operation has no name.

    References:
        Zhang et al., 2019, Detecting Numerical Bugs in Neural Network Architectures (ESEC/FSE).
        Wardat et al., 2022, DeepDiagnosis (ICSE).
    """

    code: ClassVar[str] = "LP204"
    name: ClassVar[str] = "non-finite-activations"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (
        LOSS,
        GRADIENT_NORM,
        DATA_NON_FINITE,
        LEARNING_RATES,
        PARAMETER_NORMS,
        INITIAL_NORMS,
        EXPERIMENT_REPLAY_BATCH,
    )
    explains: ClassVar = ("LP201", "LP202", "LP203", "LP205", "LP402", "LP404", "LP605")
    remedies: ClassVar = ("skip-step",)
    why: ClassVar[str] = "all that is computed from there on is NaN"

    def check(self, history: History) -> Finding | None:
        """Return the fault at the first tape that ended in a loss which was not finite."""
        return (
            self._on_a_tape(history) or self._on_a_replay(history) or self._between_tapes(history)
        )

    def _between_tapes(self, history: History) -> Finding | None:
        """Return that some operation made it, where the weights must have been sound."""
        broke = breakdown(history)
        if broke.loss is None or not broke_suddenly(history):
            return None
        if any(tape.step == broke.loss for tape in history.tapes):
            return None  # what can be said of it was said
        before = [history[s].until(broke.loss) for s in (LOSS, GRADIENT_NORM)]
        loss, gradient = (float(one.last) for one in before)
        return self.finding(
            history,
            0.7,
            f"some operation makes NaN or infinity of finite data and weights at step "
            f"{broke.loss}: before it the loss was {loss:.4g}, its gradient {gradient:.3g}",
            evidence=(Evidence("finite steps before", float(len(before[1])), LEAST_BEFORE),),
            fix="look at the batch of that step: an empty row, or one that is masked throughout? "
            "log(0), a root or a division by zero? Trainer(detect_anomaly=True) names the call",
            step=broke.loss,
        )

    def _on_a_replay(self, history: History) -> Finding | None:
        found = replayed(history, "forward")
        if found is None:
            return None
        step, place = found
        return self.finding(
            history,
            0.8,
            f"{place} is the first to make NaN or infinity, as a replay at step {step} shows",
            evidence=(Evidence("output that is not finite", 1.0, 0.0, place),),
            fix="keep what goes in within the domain of the operation: clamp it, or add an epsilon",
            where=place,
            step=step,
        )

    def _on_a_tape(self, history: History) -> Finding | None:
        tape = next((tape for tape in history.tapes if not tape.finite), None)
        made = None if tape is None else first_non_finite(tape)
        if tape is None or made is None or _from_batch(history, tape, made):
            return None
        weight = _born_broken(history, tape, made)
        if weight is not None:
            return self._report_weight(history, made, weight)
        if _weights_may_be_broken(history, tape, made):
            return None
        return self._report(history, tape, made)

    def _report(self, history: History, tape: Tape, made: Operation) -> Finding:
        edge = brink(made)
        # At the edge of a domain LP207 says more; later, the steps before may have led here.
        sure = 0.95 if edge is not None else 1.0 if tape.step == 0 else 0.85
        return self.finding(
            history,
            sure,
            f"{made.site} makes {_result(made)} of {_given(tape, made)} at step {tape.step}",
            evidence=(Evidence("output that is not finite", 1.0, 0.0, made.site),),
            fix=edge.fix if edge is not None else _fix(tape, made),
            where=made.site,
            step=tape.step,
        )

    def _report_weight(self, history: History, made: Operation, weight: str) -> Finding:
        norm = float(history[INITIAL_NORMS].column(weight).values[0])
        return self.finding(
            history,
            1.0,
            f"parameter {weight} holds NaN or infinity before the first step; {made.site} is the "
            "first to use it",
            evidence=(Evidence(INITIAL_NORMS.tag, norm, where=weight),),
            fix="initialize it: torch.empty and torch.Tensor(n, m) hold whatever was in memory; "
            "nn.init.xavier_uniform_(parameter)",
            where=weight,
            step=0,
        )


def _from_batch(history: History, tape: Tape, made: Operation) -> bool:
    """Whether the operation was given a tensor of the batch that is not finite itself.

    Or may have been: the step was skipped, and nothing is known of its data any more.
    """
    known = history[DATA_NON_FINITE]
    counts = known.since(tape.step).until(tape.step + 1)
    leaves = [tape.from_batch(operand) for operand in made.operands]
    names = {leaf.name for leaf in leaves if leaf is not None}
    unknown = bool(names) and len(known) > 0 and not len(counts)
    return unknown or any((counts.column(name).values > 0).any() for name in names)


def _born_broken(history: History, tape: Tape, made: Operation) -> str | None:
    """Return the parameter that the operation uses and that was not finite from the beginning."""
    norms = history[INITIAL_NORMS]
    if tape.step > 0 or not len(norms):
        return None
    used = [operand.name for operand in made.operands if operand.source == "parameter"]
    broken = [name for name in used if not np.isfinite(norms.column(name).values).all()]
    return next(iter(broken), None)


def _weights_may_be_broken(history: History, tape: Tape, made: Operation) -> bool:
    """Whether an earlier step may have written NaN into what the operation uses."""
    first = breakdown(history).step
    if first is None or first >= tape.step:
        return False
    if made.operands and _known(tape, made):
        return False
    since = history[PARAMETER_NORMS].since(first).until(tape.step)
    return not len(since) or not bool(np.isfinite(since.values).all())


def _known(tape: Tape, made: Operation) -> bool:
    """Whether all that the operation was given are outputs that were looked at."""
    producers = [tape.producer(operand) for operand in made.operands]
    return all(producer is not None and producer.statistics for producer in producers)


def _result(made: Operation) -> str:
    statistics = made.statistics
    low, high = statistics.get("minimum", math.nan), statistics.get("maximum", math.nan)
    if math.isnan(low) or math.isnan(high):
        return "NaN"
    return "inf" if high == math.inf else "-inf" if low == -math.inf else "NaN or infinity"


def _given(tape: Tape, made: Operation) -> str:
    if next(broken_operands(tape, made), None) is not None:
        return "a row that is -inf throughout" if made.name in SOFTMAXES else "infinite values"
    ranges = [reach for operand in made.operands if (reach := _range(tape, operand)) is not None]
    widest = max(ranges, key=lambda reach: max(-reach[0], reach[1]), default=None)
    return "finite values" + ("" if widest is None else f" ({widest[0]:.4g} to {widest[1]:.4g})")


def _range(tape: Tape, operand: Operand) -> tuple[float, float] | None:
    producer = tape.producer(operand)
    known = operand.statistics or ({} if producer is None else producer.statistics)
    low, high = known.get("minimum", math.nan), known.get("maximum", math.nan)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _fix(tape: Tape, made: Operation) -> str:
    masked = next(broken_operands(tape, made), None) is not None
    if made.name in SOFTMAXES and masked:
        return "leave at least one position of each row unmasked, or mask with a large finite value"
    if made.name in CLASS_LOSSES and not masked:
        return "is every target of the batch ignore_index? Its mean is then over nothing"
    if made.name in _SPREADS:
        return "the standard deviation of a single value is 0/0: pass correction=0"
    if made.name in _MEANS and any(0 in operand.shape for operand in made.operands):
        return "it reduces an empty selection: leave it out where nothing was selected"
    if made.dtype == "float16":
        return f"float16 ends at {largest('float16'):,.0f}: use precision='bf16-mixed'"
    return "keep what goes in smaller: normalize it, or clamp it"
