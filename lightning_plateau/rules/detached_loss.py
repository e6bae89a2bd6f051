"""LP305: the loss is cut off from every parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import computing
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS
from lightning_plateau.core.tape import Operand, Operation, Tape

_ROUNDED = frozenset(
    [
        "argmax",
        "argmin",
        "round",
        "floor",
        "ceil",
        "sign",
        "ge",
        "gt",
        "le",
        "lt",
        "eq",
        "ne",
        "topk",
    ]
)
_GRADIENTS_IN_PLACE = frozenset({"SingleDeviceStrategy", "DDPStrategy"})
_COPYING = frozenset({"tensor", "new_tensor"})
"""Calls whose result begins a way of its own, though it may take part in backward."""
_CAST = frozenset({"long", "int", "bool", "byte", "short", "char", "to", "type"})


@dataclass(frozen=True)
class DetachedLoss(Rule):
    """The loss is cut off from every parameter.

    What it detects:
        A backward from a tensor that no trainable parameter had a part in, as far as autograd
        knows. Either the tensor takes no part in backward, and torch raises; or it was made to
        (``requires_grad_()``, ``torch.tensor(loss.item(), requires_grad=True)``), backward runs,
        and no parameter has ever got a gradient. The tape names the operation that made the cut.

    Why it matters:
        Nothing can be learned: the parameters get no gradient, whatever the optimizer.

    Example:
        >>> from lightning_plateau.core.profile import ParameterFact, Profile
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0"), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight))
        >>> cut = Operation(1, "detach", "", (Operand("operation", 0),), requires_grad=False)
        >>> loss = Operation(2, "mean", "", (Operand("operation", 1),), requires_grad=False)
        >>> tape = Tape(0, (fc, cut, loss), root=2, root_requires_grad=False)
        >>> facts = Profile(parameters=(ParameterFact("fc.weight", "fc", (1, 4)),))
        >>> finding = DetachedLoss().check(history(profile=facts, tapes=[tape]))
        >>> finding.certainty, finding.message
        ('certain', 'the loss reaches 0 of 1 trainable parameters: it was cut off at detach')

    Remedies:
        Advice only: keep the way from the parameters to the loss free of ``detach``, ``item``,
        ``numpy``, ``no_grad`` and whatever makes whole numbers of scores.

    Known limitations:
        A loss that reaches some parameters and not others is LP304's to say. Where backward is the
        user's own and leaves gradients behind, nothing is said.

    References:
        Paszke et al., 2019, PyTorch: An Imperative Style, High-Performance Deep Learning Library
        (NeurIPS). Humbatova et al., 2020, Taxonomy of Real Faults in Deep Learning Systems (ICSE).
    """

    code: ClassVar[str] = "LP305"
    name: ClassVar[str] = "detached-loss"
    requires: ClassVar = (GRADIENT_NORM, GRADIENT_NORMS)
    explains: ClassVar = (
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP412",
        "LP414",
        "LP709",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    method: ClassVar[Method] = "training_step"
    why: ClassVar[str] = "no parameter gets a gradient, so nothing is learned"

    def check(self, history: History) -> Finding | None:
        """Return the fault where no trainable parameter had a part in the loss."""
        trainable = history.profile.trainable
        if not trainable or _any_gradient(history):
            return None
        for tape in history.tapes:
            confidence = self._confidence(history, tape, trainable)
            if confidence > 0.0:
                return self._report(history, tape, trainable, confidence)
        return None

    def _confidence(self, history: History, tape: Tape, trainable: frozenset[str]) -> float:
        """Return how sure it is that backward on ``tape`` reached nothing; 0 where it may have."""
        if tape.root is None:
            return 0.0
        if not tape.root_requires_grad:
            return 1.0
        # Sharded strategies keep gradients where they are not seen. Elsewhere, that there are none
        # at all says more than the tape, which does not see into autograd functions.
        seen = history.profile.strategy in _GRADIENTS_IN_PLACE and len(history[GRADIENT_NORM]) > 0
        ends = _ends(tape, trainable)
        if not seen or "parameter" in ends:
            return 0.0
        return 0.9 if "other" in ends else 1.0

    def _report(
        self, history: History, tape: Tape, trainable: frozenset[str], confidence: float
    ) -> Finding:
        cut = _cut(tape, trainable)
        return self.finding(
            history,
            confidence,
            f"the loss reaches 0 of {len(trainable)} trainable parameters: "
            + (
                f"it was cut off at {cut.site}"
                if cut is not None
                else "it was made of plain numbers, not of the output of the network"
            ),
            evidence=(Evidence("trainable parameters that the loss reaches", 0.0, 1.0),),
            fix=_fix(cut),
            where=cut.site if cut is not None else "",
            step=tape.step,
        )


def _any_gradient(history: History) -> bool:
    """Whether some parameter ever had a gradient, were it zero or not finite."""
    total, each = history[GRADIENT_NORM].values, history[GRADIENT_NORMS].values
    # The last row answers for nearly every run.
    return bool(np.isfinite(each[-1:]).any() or (total != 0.0).any() or np.isfinite(each).any())


def _ends(tape: Tape, trainable: frozenset[str]) -> set[str]:
    """Return where autograd's way back from the loss ends: in a parameter, or in the unknown."""
    if tape.root is None or not 0 <= tape.root < len(tape):
        return {"other"}
    ends: set[str] = set()
    wanted = {tape.root}
    for index in range(tape.root, -1, -1):
        operation = tape.operations[index]
        if index not in wanted or not operation.requires_grad or operation.name in _COPYING:
            continue
        for operand in operation.operands:
            if operand.source == "operation":
                wanted.add(operand.index)
            elif operand.source in ("other", "stray") or _is_trainable(operand, trainable):
                ends.add(operand.source)
    return ends


def _cut(tape: Tape, trainable: frozenset[str]) -> Operation | None:
    """Return the last operation that took what has a gradient and made what has none."""
    live: set[int] = set()
    cut = None
    for operation in computing(tape):
        alive = any(
            _is_trainable(operand, trainable)
            or (operand.source == "operation" and operand.index in live)
            for operand in operation.operands
        )
        if alive and operation.requires_grad and operation.name not in _COPYING:
            live.add(operation.index)
        elif alive:
            cut = operation if cut is None or _follows(cut, live) else cut
    return cut


def _follows(cut: Operation, live: set[int]) -> bool:
    """Whether something after ``cut`` had a gradient again, so that the cut lay further on."""
    return any(index > cut.index for index in live)


def _is_trainable(operand: Operand, trainable: frozenset[str]) -> bool:
    return operand.source == "parameter" and operand.name in trainable


def _fix(cut: Operation | None) -> str:
    if cut is None:
        return (
            "return the loss as torch made it: no item(), float(), tolist() or numpy() on the way, "
            "and no torch.tensor(...) around it"
        )
    if cut.name in _COPYING:
        return f"leave out torch.{cut.name}(...): the copy that it makes has no way back"
    if cut.name in ("detach", "data", "view"):
        return f"leave out .detach() and .data at {cut.site}"
    if cut.name in _ROUNDED | _CAST:
        return (
            f"{cut.name} has no gradient: give the loss the scores themselves "
            "(cross_entropy takes logits and class indices)"
        )
    return f"run {cut.site} with gradients: no torch.no_grad() or inference_mode around it"
