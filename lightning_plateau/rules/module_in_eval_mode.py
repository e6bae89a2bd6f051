"""LP902: the module is trained in evaluation mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.derived import derived
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import Operation, Tape

_DROPOUTS = frozenset(
    ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
)
_FUSED = frozenset({"transformer_encoder", "transformer_encoder_layer"})


@dataclass(frozen=True)
class ModuleInEvalMode(Rule):
    """The module is trained in evaluation mode.

    What it detects:
        Every dropout and batch norm of the forward pass runs as in evaluation, some of them behind
        weights that are to learn; and the LightningModule itself was in evaluation mode when the
        run began, or at the last step that was looked at, or dropout ran in training mode before:
        ``eval()`` was called and never taken back.
        Less certain is a part of the network with weights to train whose dropout is off, as models
        that are loaded pretrained often have it: that is only said while training fails.

    Why it matters:
        Lightning leaves modes as it finds them. In evaluation mode dropout does nothing, and batch
        norm divides by running statistics that are never updated: in a new network by 1, which is
        no normalization at all.

    Example:
        >>> from lightning_plateau.core.profile import ModuleFact, ParameterFact, Profile
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0"), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight))
        >>> mode = {"p": 0.5, "training": False}
        >>> drop = Operation(1, "dropout", "drop", (Operand("operation", 0),), attributes=mode)
        >>> facts = (ParameterFact("fc.weight", "fc", (1, 4)),)
        >>> profile = Profile(facts, (ModuleFact("", "Module", training=False),))
        >>> run = history(profile=profile, tapes=[Tape(0, (fc, drop))])
        >>> finding = ModuleInEvalMode().check(run)
        >>> finding.certainty, finding.message
        ('certain', 'the module is in evaluation mode: 1 of 1 calls run as in evaluation: dropout')

    Remedies:
        Advice only: call ``train()`` before ``fit``, and after whatever called ``eval()``.

    Known limitations:
        A frozen part in evaluation mode is right, and so is batch norm that is frozen alone: as
        long as anything else runs in training mode, the rule is silent or unsure. The dropout
        within recurrent layers and attention is not looked at.

    References:
        Lightning 2.2, release notes: the training loop no longer sets the mode of modules.
    """

    code: ClassVar[str] = "LP902"
    name: ClassVar[str] = "module-in-eval-mode"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (LOSS,)
    explains: ClassVar = ("LP602", "LP603", "LP801")
    why: ClassVar[str] = "dropout does nothing, and batch norm never updates what it divides by"

    confidence_of_a_part: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault where what depends on the mode runs as in evaluation."""
        tape = history.last_tape
        if tape is None:
            return None
        calls = _calls(tape)
        idle = [call for call in calls if not _trains(call)]
        learning = _learning(history, tape) if idle else frozenset()
        off = [call for call in idle if call.index in learning]
        if not off:
            return None
        root = history.profile.module("")
        left_so = root is not None and not root.training
        switched = not tape.training or _switched(history)
        if not any(_trains(call) for call in calls) and (left_so or switched):
            return self._report(history, tape, off, len(calls), 1.0, left_so=left_so)
        part = [call for call in off if call.name in _DROPOUTS and _in_eval(history, call.layer)]
        if not part:
            return None
        confidence = self.confidence_of_a_part
        return self._report(history, tape, part, len(calls), confidence, left_so=False)

    def _report(
        self,
        history: History,
        tape: Tape,
        calls: list[Operation],
        among: int,
        confidence: float,
        *,
        left_so: bool,
    ) -> Finding:
        names = ", ".join(dict.fromkeys(call.name for call in calls))
        begin = (
            "the module is in evaluation mode"
            if left_so
            else "the network went over to evaluation mode"
            if confidence == 1.0
            else f"{calls[0].layer or 'a part'} is in evaluation mode, though it trains"
        )
        return self.finding(
            history,
            confidence,
            f"{begin}: {len(calls)} of {among} calls run as in evaluation: {names}",
            evidence=(Evidence("calls as in evaluation", float(len(calls)), 0.0, calls[0].site),),
            fix="call model.train() before trainer.fit, and again after whatever called eval(): "
            "Lightning leaves the mode as it finds it",
            where=calls[0].site,
            step=tape.step,
        )


@derived
def _calls(tape: Tape) -> list[Operation]:
    """Return the calls on the way to the loss that training and evaluation do differently."""
    return [
        call
        for call in called(tape, _FUSED | _DROPOUTS | {"batch_norm"})
        if call.name in _FUSED
        or (call.name == "batch_norm" and call.attributes.get("training") is not None)
        or (call.name in _DROPOUTS and call.attributes.get("p") not in (None, 0, 0.0))
    ]


def _trains(call: Operation) -> bool:
    return call.name not in _FUSED and call.attributes.get("training") is not False


def _switched(history: History) -> bool:
    """Whether dropout ran in training mode on the first tape: the mode was changed since."""
    first, last = history.first_tape, history.last_tape
    if first is None or last is None or first.step == last.step:
        return False
    return any(call.name in _DROPOUTS and _trains(call) for call in _calls(first))


def _learning(history: History, tape: Tape) -> frozenset[int]:
    """Return the calls that follow on weights to train, or have some: no frozen part counts."""
    trainable = history.profile.trainable
    learning: set[int] = set()
    for call in tape:
        if any(
            operand.index in learning
            if operand.source == "operation"
            else operand.source == "parameter" and operand.name in trainable
            for operand in call.operands
        ):
            learning.add(call.index)
    return frozenset(learning)


def _in_eval(history: History, layer: str) -> bool:
    """Whether ``layer`` was in evaluation mode when the run began."""
    fact = history.profile.module(layer)
    return fact is not None and not fact.training
