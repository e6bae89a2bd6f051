"""LP410: parameters take part in the loss, but no optimizer changes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ParameterFact
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS, LOSS_PER_OPTIMIZER
from lightning_plateau.core.tape import LINEAR_OPERATIONS, NORMALIZATIONS, Operation, Tape

_LAYERS = LINEAR_OPERATIONS | NORMALIZATIONS | {"embedding"}
"""Operations that use every parameter they are given."""


@dataclass(frozen=True)
class ParametersNotOptimized(Rule):
    """Parameters take part in the loss, but no optimizer changes them.

    What it detects:
        Trainable parameters that the loss was computed with, under gradient, and that are in no
        parameter group of any optimizer (those that were unfrozen after it was made, too); or that
        the module itself does not know, because their layers are kept in a plain list or dict; or
        that were put in the place of those that the optimizer holds: these never get a gradient,
        though forward uses parameters of their names and the way from there to the loss is open; or
        that one of several optimizers holds, which made no step in most of the run while another
        one did. Layers before the first optimized one may have been left out on purpose (a
        pretrained body), so there it is a warning; elsewhere it is an error.

    Why it matters:
        Their gradients are computed and thrown away; they keep their random start.

    Example:
        >>> from lightning_plateau.core.profile import OptimizerFact, Profile
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> facts = tuple(
        ...     ParameterFact(f"{name}.weight", name, (4, 4), optimized=name == "body")
        ...     for name in ("body", "head")
        ... )
        >>> calls = tuple(
        ...     Operation(i, "linear", operands=(before, Operand("parameter", name=fact.name)))
        ...     for i, (fact, before) in enumerate(
        ...         zip(facts, (Operand("batch", 0, "0"), Operand("operation", 0)))
        ...     )
        ... )
        >>> profile = Profile(parameters=facts, optimizers=(OptimizerFact("Adam"),))
        >>> run = history(profile=profile, tapes=[Tape(0, calls, root=1)])
        >>> ParametersNotOptimized().check(run).message
        '1 of 2 trainable parameters (50 % of the elements) are in no optimizer: head.weight'

    Remedies:
        Advice only: give them to the optimizer, or freeze them in earnest.

    Known limitations:
        Parameters that are made during the first forward pass are not in the profile. Without a
        tape it cannot be seen whether a parameter is used, and the finding is a guess.

    References:
        Jiang et al., 2025, Training with Confidence: Catching Silent Errors in Deep Learning
        Training with Automated Proactive Checks (OSDI).
    """

    code: ClassVar[str] = "LP410"
    name: ClassVar[str] = "parameters-not-optimized"
    explains: ClassVar = (
        "LP104",
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP411",
        "LP412",
        "LP414",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "their gradients are thrown away, and they keep their random start"

    requires: ClassVar = (GRADIENT_NORM, GRADIENT_NORMS, LOSS_PER_OPTIMIZER)

    most_named: int = 3
    minimum_rows: int = 5
    late: float = 0.75

    def check(self, history: History) -> Finding | None:
        """Return the fault where used trainable parameters are in no optimizer."""
        strays = _strays(history)
        if strays:
            return self._report_strays(history, strays)
        return self._forgotten(history) or self._replaced(history) or self._unstepped(history)

    def _unstepped(self, history: History) -> Finding | None:
        """Return the fault where an optimizer is never asked to step, and another one is."""
        steps, planned = history[LOSS_PER_OPTIMIZER], history.profile.planned_steps
        over = history.finished or (planned is not None and history.step >= self.late * planned)
        if not over or len(history.profile.optimizers) != len(steps.labels):
            return None
        made = np.isfinite(steps.values).sum(axis=0)
        if len(made) < 2 or made.min() > 0 or made.max() < self.minimum_rows:
            return None
        optimizer = int(made.argmin())
        held = history.profile.held_alone(optimizer)
        used = [_on_open_ways(tape) for tape in history.tapes[-2:]]
        lost = [name for name in held if used and all(name in ways for ways in used)]
        # Of two that step on one loss only the first has it for its own; both have gradients.
        if not lost or not set(held).isdisjoint(_with_gradient(history)):
            return None
        kind = history.profile.optimizers[optimizer].kind
        return self.finding(
            history,
            1.0,
            f"optimizer {optimizer} ({kind}) has made no step in {made.max()}, though gradients "
            f"reach what it holds: {', '.join(lost[: self.most_named])}"
            + (f" and {len(lost) - self.most_named} more" if len(lost) > self.most_named else ""),
            evidence=(Evidence("steps of the optimizer", 0.0, float(made.max())),),
            fix="call step() of each optimizer that self.optimizers() returns",
            where=lost[0],
        )

    def _replaced(self, history: History) -> Finding | None:
        """Return the fault where the optimizer holds others than forward uses by the same names."""
        gradients, total = history[GRADIENT_NORMS], history[GRADIENT_NORM]
        known = len(gradients) >= self.minimum_rows and bool(np.isfinite(total.values).all())
        if not known or len(history.profile.optimizers) != 1:
            return None
        never = np.isnan(gradients.values[-1])
        if not never.any():  # as in most runs; the rows before need not be looked at
            return None
        never[never] = np.isnan(gradients.values[:, never]).all(axis=0)
        if not never.any() or never.all():
            return None
        held = {p.name for p in history.profile.parameters if p.trainable and p.optimized}
        used = [_on_open_ways(tape) for tape in history.tapes[-2:]]
        idle = {gradients.labels[place] for place in np.flatnonzero(never)}
        lost = sorted((idle & held).intersection(*used)) if used else []
        if not lost:
            return None
        more = len(lost) - self.most_named
        return self.finding(
            history,
            0.9,
            f"{len(lost)} parameters that the optimizer holds never got a gradient, though forward "
            f"uses parameters of their names: {', '.join(lost[: self.most_named])}"
            + (f" and {more} more" if more > 0 else ""),
            evidence=(Evidence("parameters without a gradient", float(len(lost)), 0.0, lost[0]),),
            fix="were they replaced, or frozen, after the optimizer was made? Change what they "
            "hold and not what they are: nn.init works in place, and so does load_state_dict",
            where=lost[0],
        )

    def _forgotten(self, history: History) -> Finding | None:
        profile = history.profile
        if not any(group.parameters for o in profile.optimizers for group in o.groups) and not any(
            parameter.optimized for parameter in profile.parameters
        ):
            return None
        idle = [p for p in profile.parameters if p.trainable and not p.optimized]
        if not idle:
            return None
        used = _used(history)
        forgotten = [p for p in idle if p.name in used] if history.tapes else idle
        if not forgotten:
            return None
        finding = self._report(history, forgotten)
        body = history.tapes and _before_all_optimized(forgotten, used, profile.parameters)
        return replace(finding, severity=Severity.WARNING) if body else finding

    def _report_strays(
        self, history: History, strays: tuple[tuple[str, tuple[int, ...]], ...]
    ) -> Finding:
        shapes = ", ".join(f"{shape} in {name}" for name, shape in strays[: self.most_named])
        more = len(strays) - self.most_named
        return self.finding(
            history,
            1.0,
            f"the loss is computed with {len(strays)} trainable parameters that the module does "
            f"not know: {shapes}" + (f" and {more} more" if more > 0 else ""),
            evidence=(Evidence("parameters unknown to the module", float(len(strays)), 0.0),),
            fix="keep layers in nn.ModuleList or nn.ModuleDict, tensors in nn.ParameterList, in "
            "place of a list or dict: then parameters(), .to() and checkpoints find them",
            where=strays[0][0],
        )

    def _report(self, history: History, forgotten: list[ParameterFact]) -> Finding:
        trainable = [p for p in history.profile.parameters if p.trainable]
        share = sum(p.size for p in forgotten) / max(1, sum(p.size for p in trainable))
        names = ", ".join(p.name for p in forgotten[: self.most_named])
        more = len(forgotten) - self.most_named
        return self.finding(
            history,
            1.0 if history.tapes else 0.6,
            f"{len(forgotten)} of {len(trainable)} trainable parameters ({100 * share:.0f} % of "
            f"the elements) are in no optimizer: {names}"
            + (f" and {more} more" if more > 0 else ""),
            evidence=(
                Evidence("used parameters in no optimizer", float(len(forgotten)), 0.0),
                Evidence("share of the trainable elements", share, 0.0),
            ),
            fix="pass all of them: torch.optim.Adam(self.parameters()); or, where they are meant "
            "to stay, say so: module.requires_grad_(False)",
            where=forgotten[0].name,
        )


def _with_gradient(history: History) -> set[str]:
    """Return the parameters whose gradient was seen as their optimizer stepped."""
    gradients = history[GRADIENT_NORMS]
    seen = np.isfinite(gradients.values).any(axis=0)
    return {gradients.labels[column] for column in np.flatnonzero(seen)}


def _used(history: History) -> dict[str, int]:
    """Return the parameters that some loss was computed with under gradient, by their first use."""
    used: dict[str, int] = {}
    for tape in history.tapes:
        for name, index in _used_on(tape).items():
            used.setdefault(name, index)
    return used


@derived
def _used_on(tape: Tape) -> Mapping[str, int]:
    used: dict[str, int] = {}
    for operation in _differentiated(tape):
        for operand in operation.operands:
            if operand.source == "parameter":
                used.setdefault(operand.name, operation.index)
    return used


@derived
def _on_open_ways(tape: Tape) -> frozenset[str]:
    """Return the parameters of layers from which gradients reach the loss."""
    found: set[str] = set()
    if tape.root is None or not 0 <= tape.root < len(tape):
        return frozenset()
    wanted = {tape.root}
    for index in range(tape.root, -1, -1):
        operation = tape.operations[index]
        if index not in wanted or not operation.requires_grad:
            continue
        wanted.update(o.index for o in operation.operands if o.source == "operation")
        if operation.name in _LAYERS:
            found.update(o.name for o in operation.operands if o.source == "parameter")
    return frozenset(found)


def _strays(history: History) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return site and shape of each parameter that nobody holds and that backward reached."""
    tape = history.last_tape
    return () if tape is None else _strays_on(tape)


@derived
def _strays_on(tape: Tape) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(
        (operation.site, operand.shape)
        for operation in reversed(_differentiated(tape))
        for operand in operation.operands
        if operand.source == "stray"
    )


@derived
def _differentiated(tape: Tape) -> tuple[Operation, ...]:
    """Return the operations that backward went through."""
    if tape.root is None or not 0 <= tape.root < len(tape):
        return ()
    return tuple(o for o in tape.ancestors(tape.operations[tape.root]) if o.requires_grad)


def _before_all_optimized(
    forgotten: list[ParameterFact], used: dict[str, int], parameters: tuple[ParameterFact, ...]
) -> bool:
    """Whether every forgotten parameter is used before the first optimized one."""
    optimized = [used[p.name] for p in parameters if p.optimized and p.name in used]
    return bool(optimized) and max(used[p.name] for p in forgotten) < min(optimized)
