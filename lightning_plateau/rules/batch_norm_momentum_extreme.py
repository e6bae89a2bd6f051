"""LP604: running statistics follow the batches too slowly, or not at all, or too fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_plateau.core.evaluation_gap import evaluation_gap
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.normalization import (
    BATCH_NORMS,
    BatchNormCall,
    Moments,
    batch_norm_calls,
    latest_moments,
)
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    LOSS,
    NORMALIZATION_BATCH_MEAN,
    NORMALIZATION_BATCH_VARIANCE,
    NORMALIZATION_RUNNING_MEAN,
    NORMALIZATION_RUNNING_VARIANCE,
    VALIDATION_LOSS,
)


@dataclass(frozen=True)
class BatchNormMomentumExtreme(Rule):
    """The momentum of a batch norm makes its running statistics useless.

    What it detects:
        In torch, momentum is the weight of the *new* batch. 0: the running statistics are never
        updated. So small that at the end of the planned run they would still be mostly what they
        began with, and are far from those of the batches. 0.9 and more, as other libraries count
        it: they are those of the last batch; that is a remark, unless validation lacks what
        training has learned. Outside of [0, 1]: they run away. None, the mean over all batches:
        only where they are far off and validation suffers.

    Why it matters:
        Training does not use the running statistics, so its loss tells nothing. Evaluation does.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> x, mean = (
        ...     Operand("operation", 0, shape=(8, 4)),
        ...     Operand("buffer", name="bn.running_mean"),
        ... )
        >>> norm = Operation(1, "batch_norm", "bn", (x, mean), attributes={"momentum": 1.5})
        >>> run = history(loss=[1.0], tapes=[Tape(0, (Operation(0, "linear"), norm), root=1)])
        >>> BatchNormMomentumExtreme().check(run).message
        'bn has momentum 1.5: its running statistics run away'

    Remedies:
        batch-norm-momentum sets 0.1; reset-batch-norm starts the statistics anew.

    Known limitations:
        Statistics that are estimated anew before use (``update_bn``) need no momentum.

    References:
        PyTorch documentation, torch.nn.BatchNorm2d: "this momentum argument is different from one
        used in optimizer classes and the conventional notion of momentum".
    """

    code: ClassVar[str] = "LP604"
    name: ClassVar[str] = "batch-norm-momentum-extreme"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (
        LOSS,
        VALIDATION_LOSS,
        NORMALIZATION_RUNNING_MEAN,
        NORMALIZATION_RUNNING_VARIANCE,
        NORMALIZATION_BATCH_MEAN,
        NORMALIZATION_BATCH_VARIANCE,
    )
    explains: ClassVar = ("LP106", "LP602", "LP801")
    remedies: ClassVar = ("batch-norm-momentum", "reset-batch-norm")
    why: ClassVar[str] = "evaluation normalizes by statistics that are not those of the data"

    high: float = 0.9
    least_left: float = 0.3
    least_disparity: float = 1.5
    least_share: float = 0.3
    least_steps: int = 50

    def check(self, history: History) -> Finding | None:
        """Return the fault at the first layer whose momentum is extreme."""
        tape = history.last_tape
        if tape is None:
            return None
        found = [
            finding
            for call in batch_norm_calls(tape)
            if call.training and any(o.source == "buffer" for o in call.operation.operands)
            if (finding := self._judge(history, call)) is not None
        ]
        order = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}
        return max(found, key=lambda one: (order[one.severity], one.confidence), default=None)

    def _judge(self, history: History, call: BatchNormCall) -> Finding | None:
        momentum = _momentum(history, call)
        if momentum is None:
            if not self._suffers(history) or self._apart(history, call) is None:
                return None
            said = "its statistics are the mean since the start"
            return self._report(history, call, momentum, 0.7, said)
        if not 0.0 <= momentum <= 1.0:
            return self._report(history, call, momentum, 1.0, "its running statistics run away")
        if momentum >= self.high:
            if history.profile.batches_per_epoch == 1:
                return None
            said = f"its running statistics are {100 * momentum:.3g} % those of the last batch"
            found = self._report(history, call, momentum, 0.9, said)
            return found if self._suffers(history) else replace(found, severity=Severity.INFO)
        return (
            self._never(history, call) if momentum == 0.0 else self._slow(history, call, momentum)
        )

    def _suffers(self, history: History) -> bool:
        """Whether evaluation, which these statistics are used in, is the worse for them."""
        gap = evaluation_gap(history)
        return gap is not None and gap.share >= self.least_share

    def _apart(self, history: History, call: BatchNormCall) -> Moments | None:
        """Return what the layer's statistics and its batches say, where these are far apart."""
        seen = latest_moments(history).get(call.name)
        return seen if seen is not None and seen.disparity >= self.least_disparity else None

    def _never(self, history: History, call: BatchNormCall) -> Finding | None:
        """Return the fault where the statistics stay what they were, and are off."""
        seen = self._apart(history, call)
        if seen is None or history.step == 0:
            return None
        sure = 1.0 if seen.untouched else 0.7 if self._suffers(history) else 0.0
        said = "its running statistics are never updated"
        return self._report(history, call, 0.0, sure, said) if sure else None

    def _slow(self, history: History, call: BatchNormCall, momentum: float) -> Finding | None:
        """Return the fault where the statistics are still those of the start, and these are off."""
        steps = max(history.profile.planned_steps or history.step, history.step)
        left = (1.0 - momentum) ** steps
        if history.step < max(1, self.least_steps) or left < self.least_left:
            return None
        if self._apart(history, call) is None:
            return None
        said = f"after {steps} steps its statistics are still {100 * left:.0f} % those of the start"
        return self._report(history, call, momentum, 0.9, said)

    def _report(
        self,
        history: History,
        call: BatchNormCall,
        momentum: float | None,
        confidence: float,
        said: str,
    ) -> Finding:
        value = "None" if momentum is None else f"{momentum:g}"
        evidence = () if momentum is None else (Evidence("momentum", momentum, 0.1, call.name),)
        since = f" (step {history.step})" if momentum is None else ""
        return self.finding(
            history,
            confidence,
            f"{call.name} has momentum {value}: {said}{since}",
            evidence=evidence,
            fix="momentum=0.1: in torch it is the weight of the new batch (0.99 elsewhere is 0.01 "
            "here)",
            where=call.name,
        )


def _momentum(history: History, call: BatchNormCall) -> float | None:
    """Return the momentum as it was set; None for the mean over all batches, or where unknown."""
    fact = history.profile.module(call.operation.layer)
    if fact is None or fact.kind not in BATCH_NORMS or "momentum" not in fact.attributes:
        return call.momentum
    momentum = fact.attributes["momentum"]
    return float(momentum) if isinstance(momentum, int | float) else None
