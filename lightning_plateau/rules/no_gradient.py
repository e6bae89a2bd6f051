"""LP304: parameters get no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import computing
from lightning_plateau.core.rule import Remark, Rule
from lightning_plateau.core.signal import (
    GRADIENT_NORM,
    GRADIENT_NORMS,
    LOSS,
    LOSS_PER_OPTIMIZER,
    UPDATE_RATIOS,
)
from lightning_plateau.core.tape import RECURRENCES, Operation, Tape

_HIDDEN = "weight_hh"
"""What torch calls the weights of a recurrent layer's state."""
FEWEST_CALLS = 3
FEWEST_STEPS = 20
"""Steps of a run that tell that none had a gradient."""
_STEPS = frozenset({"round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside"})
"""Functions that are level but for leaps: what goes through them has a slope of zero."""


@dataclass(frozen=True)
class NoGradient(Rule):
    """Parameters get no gradient.

    What it detects:
        Trainable parameters that an optimizer holds, and whose gradient was absent or exactly zero
        on every one of the recent steps (at least 5, at most 50), while other parameters had one or
        the loss was not zero. The tape tells the two reasons apart: parameters that the forward
        pass never uses, and parameters that it uses but that are cut off from the loss, by
        ``detach``, ``no_grad``, ``argmax`` or units that are all dead; and names the operation. It
        is certain where one of several optimizers steps on a loss of its own, and no parameter that
        it holds has a gradient (a generator's loss on ``fake.detach()``); likely where a recurrent
        cell is given a new state at each of its calls, so that its weights for the state have
        nothing to work on; and certain where every way from
        the parameters to the loss leads through ``round``, ``sign`` or another function of steps,
        whose slope is zero.

    Why it matters:
        These parameters keep their random start. Cut off in the middle, the whole network before
        the cut does not learn.

    Example:
        >>> from lightning_plateau.testing import history
        >>> norms = {"body.weight": [0.0] * 9, "head.weight": [1.0] * 9}
        >>> run = history({GRADIENT_NORMS: norms, GRADIENT_NORM: [1.0] * 9}, loss=[2.3] * 9)
        >>> NoGradient().check(run).message
        '1 of 2 parameters got no gradient in the last 9 steps: body.weight'

    Remedies:
        Take the cut out of the forward pass, or the parameters out of the optimizer. Where weights
        began at zero, reinitialize gives them a start.

    Known limitations:
        Experts and branches that are chosen by the data may rest longer than 50 steps. Whether zero
        comes from dead units is LP501's to say.

    References:
        Zhang et al., 2021, AutoTrainer (ICSE). Nikanjam et al., 2022, Automatic Fault Detection for
        Deep Learning Programs Using Graph Transformations (TOSEM).
    """

    code: ClassVar[str] = "LP304"
    name: ClassVar[str] = "no-gradient"
    remark: ClassVar[Remark] = "while-well"
    requires: ClassVar = (GRADIENT_NORMS, GRADIENT_NORM, LOSS, LOSS_PER_OPTIMIZER, UPDATE_RATIOS)
    explains: ClassVar = (
        "LP104",
        "LP306",
        "LP401",
        "LP405",
        "LP414",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("reinitialize",)
    why: ClassVar[str] = "parameters without a gradient keep their random start"

    window: int = 50
    minimum_rows: int = 5
    most_named: int = 3
    confidence_where_cleared: float = 0.95
    confidence_where_forgetful: float = 0.8

    def check(self, history: History) -> Finding | None:
        """Return the fault where trainable parameters had no gradient for many steps."""
        recent = history[GRADIENT_NORMS].tail(self.window)
        if len(recent) < self.minimum_rows or not _expected(history):
            return None
        idle = self._idle_optimizer(history)
        if idle is not None:
            return idle
        last = recent.last_row
        if not (np.isnan(last) | (last == 0.0)).any():
            return None
        frozen = history.profile.frozen
        trained = [label for label in recent.labels if label not in frozen]
        zeros = (np.isnan(recent.values) | (recent.values == 0.0)).all(axis=0)
        still = [label for label in trained if zeros[recent.places[label]]]
        if not still:
            return None
        wired = self._wired(history, still, len(trained))
        if wired is not None:
            return wired
        cut = _cut(history.last_tape, set(still))
        listed = ", ".join(still[: self.most_named])
        more = f" and {len(still) - self.most_named} more" if len(still) > self.most_named else ""
        share = len(still) / len(trained)
        by_hand = history.profile.manual_optimization
        never = by_hand and share == 1.0 and _never_moved(history)
        cleared = never or _cleared(history, share)
        sure = self.confidence_where_cleared if cleared else _confidence(cut, share)
        return self.finding(
            history,
            1.0 if never else sure,
            f"{len(still)} of {len(trained)} parameters got no gradient "
            f"in the last {len(recent)} steps: {listed}{more}{_how(cut, cleared=cleared)}",
            evidence=(Evidence("parameters without a gradient", float(len(still)), 0.0, still[0]),),
            fix=_fix(cut, cleared=cleared),
            where=still[0] if cut is None else cut.site,
        )

    def _wired(self, history: History, still: list[str], trained: int) -> Finding | None:
        """Return the fault where the reason is plain: steps on the way, or a state made anew."""
        step = _step(history.last_tape, still)
        if step is not None:
            return self._report_step(history, still, trained, step)
        forgetful = _forgetful(history.last_tape, set(still))
        return self._report_forgetful(history, still, forgetful) if forgetful else None

    def _report_step(
        self, history: History, still: list[str], trained: int, step: Operation
    ) -> Finding:
        return self.finding(
            history,
            1.0,
            f"{step.name} has a slope of zero, and all that {len(still)} of {trained} parameters "
            f"do for the loss goes through it: {still[0]}"
            + (f" to {still[-1]}" if len(still) > 1 else "")
            + f" ({step.site})",
            evidence=(Evidence("parameters without a gradient", float(len(still)), 0.0, still[0]),),
            fix="let gradients pass as if there were no steps: "
            f"x + (x.{step.name}() - x).detach(); or train with what comes before them",
            where=step.site,
        )

    def _report_forgetful(
        self, history: History, still: list[str], calls: tuple[Operation, ...]
    ) -> Finding:
        return self.finding(
            history,
            self.confidence_where_forgetful,
            f"{calls[0].site} is called {len(calls)} times with a new state each time, so that "
            f"nothing is handed on from step to step: no gradient for {still[0]}",
            evidence=(Evidence("calls that take the state of another", 0.0, float(len(calls))),),
            fix="make the state once, before the loop, and give each call what the one before it "
            "returned: h = cell(x[t], h)",
            where=calls[0].site,
        )

    def _idle_optimizer(self, history: History) -> Finding | None:
        """Return the fault where an optimizer steps on a loss that reaches none of its parameters.

        With several optimizers no loss shows it: the others may well go on by themselves.
        """
        losses, gradients = history[LOSS_PER_OPTIMIZER], history[GRADIENT_NORMS]
        several = len(history.profile.optimizers) > 1
        for index, column in enumerate(losses.labels if several else ()):
            own = losses.column(column).finite.tail(self.window)
            held = history.profile.held_alone(index)
            rows = np.isin(gradients.steps, own.steps)
            columns = [gradients.places[name] for name in held if name in gradients.places]
            given = np.isfinite(gradients.values[rows][:, columns])
            if len(own) >= self.minimum_rows and len(columns) == len(held) > 0 and not given.any():
                return self._report_idle(history, index, held, len(own))
        return None

    def _report_idle(
        self, history: History, index: int, held: tuple[str, ...], steps: int
    ) -> Finding:
        kind = history.profile.optimizers[index].kind
        return self.finding(
            history,
            1.0,
            f"optimizer {index} ({kind}) made the last {steps} steps on a loss of its own, and "
            f"no parameter of it got a gradient: {held[0]}"
            + (f" to {held[-1]} ({len(held)})" if len(held) > 1 else ""),
            evidence=(Evidence("parameters with a gradient", 0.0, 1.0, held[0]),),
            fix="let that loss see what these parameters made: no .detach(), .data or no_grad() "
            "between them and it (a generator learns from D(fake), not from D(fake.detach()))",
            where=held[0],
        )


def _expected(history: History) -> bool:
    """Whether gradients can be expected: a loss of exactly zero has none to give."""
    loss, total = history[LOSS].last, history[GRADIENT_NORM].last
    return bool(np.isfinite(total)) and not (loss == 0.0 and total == 0.0)


def _cut(tape: Tape | None, still: set[str]) -> Operation | None:
    """Return the operation at which the way from the loss to the parameters ``still`` ends, if any.

    It is the operation that takes part in no backward though what it was given does; of several
    that use such parameters themselves, as under ``no_grad``, the first. Where all take part
    (gradients of exactly zero), it is the last one that uses such a parameter itself.
    """
    if tape is None:
        return None
    live: set[int] = set()
    last_use = cut = None
    for operation in computing(tape):
        uses = _uses(operation, still)
        alive = uses or any(o.source == "operation" and o.index in live for o in operation.operands)
        last_use = operation if uses else last_use
        if alive and operation.requires_grad:
            live.add(operation.index)
        elif alive and not (uses and cut is not None and _uses(cut, still)):
            cut = operation
    return cut or last_use


def _step(tape: Tape | None, still: list[str]) -> Operation | None:
    """Return the function of steps that every way from all of ``still`` to the loss goes through.

    None where one of them has a way around such functions, or none to the loss at all.
    """
    if tape is None or tape.root is None or not 0 <= tape.root < len(tape):
        return None
    met: Operation | None = None
    reaching: set[int] = set()
    for operation in computing(tape):
        given = any(o.source == "operation" and o.index in reaching for o in operation.operands)
        if not (given or _uses(operation, set(still))) or not operation.requires_grad:
            continue
        if operation.name in _STEPS:
            met = operation if met is None else met
        else:
            reaching.add(operation.index)
    used = {o.name for one in computing(tape) for o in one.operands if o.source == "parameter"}
    return met if tape.root not in reaching and used.issuperset(still) else None


def _forgetful(tape: Tape | None, still: set[str]) -> tuple[Operation, ...]:
    """Return the calls of a recurrent layer none of which is given what another one made.

    The weights of its state are among ``still``; Empty where there are fewer than three.
    """
    if tape is None:
        return ()
    layers: dict[str, list[Operation]] = {}
    for call in tape.named(RECURRENCES):
        layers.setdefault(call.layer, []).append(call)
    for calls in layers.values():
        made = {call.index for call in calls}
        apart = all(len(made & {o.index for o in tape.ancestors(call)}) == 1 for call in calls)
        names = {o.name for o in calls[0].operands if o.source == "parameter"} & still
        if len(calls) >= FEWEST_CALLS and apart and any(_HIDDEN in name for name in names):
            return tuple(calls)
    return ()


def _uses(operation: Operation, names: set[str]) -> bool:
    return any(o.source == "parameter" and o.name in names for o in operation.operands)


def _without_gradients(cut: Operation) -> bool:
    """Whether ``cut`` uses parameters and takes part in no backward: gradients are switched off."""
    return not cut.requires_grad and any(o.is_weight for o in cut.operands)


def _cleared(history: History, share: float) -> bool:
    """Whether no parameter has a gradient at all, though the loss was computed with gradients."""
    tape, recent = history.last_tape, history[GRADIENT_NORMS]
    if tape is None or tape.root is None or share < 1.0 or np.isfinite(recent.values).any():
        return False
    path = computing(tape)
    return tape.root_requires_grad and bool(path) and all(step.requires_grad for step in path)


def _never_moved(history: History) -> bool:
    """Whether no parameter had a gradient at any step of the run, and none has moved.

    Where the loss is cut off from all of them, that is the fault, and this is what comes of it.
    """
    if any(tape.root == -1 or not tape.root_requires_grad for tape in history.tapes):
        return False
    gradients, updates = history[GRADIENT_NORMS], history[UPDATE_RATIOS]
    steps = len(gradients) >= FEWEST_STEPS and len(updates) >= FEWEST_CALLS
    return steps and all(
        bool((np.isnan(one.values) | (one.values == 0.0)).all()) for one in (gradients, updates)
    )


def _confidence(cut: Operation | None, share: float) -> float:
    if cut is not None and not cut.requires_grad:
        return 0.7 + 0.25 * share
    # What forward leaves aside is odd, but seldom why a loss stays; and what gets gradients of
    # exactly zero has mostly died of something else: long steps, large inputs.
    return 0.35 + 0.3 * share


def _how(cut: Operation | None, *, cleared: bool) -> str:
    if cleared:
        return (
            "; the loss reaches them, so their gradients were cleared before the step, or made "
            "after it"
        )
    if cut is None:
        return ""
    if _without_gradients(cut):
        return f" (from {cut.site} on, forward runs without gradients)"
    return f" (cut off at {cut.site})"


def _fix(cut: Operation | None, *, cleared: bool) -> str:
    if cleared:
        return (
            "zero_grad() must not come between backward() and step(): first zero_grad(), then "
            "backward(), then step()"
        )
    if cut is None:
        return "use these parameters in forward, or keep them out of the optimizer"
    if _without_gradients(cut):
        return f"call {cut.site} outside of torch.no_grad() and inference_mode()"
    if not cut.requires_grad:
        return f"let gradients through {cut.site}: no detach, item or argmax there"
    return f"look at what follows {cut.site}: every gradient to it is exactly zero"
