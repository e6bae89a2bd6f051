"""LP704: the loss is a sum over the batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import ClassVar

from lightning_plateau.core.dying import units_died
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import closing, comparisons
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import ACTIVATION_DEAD
from lightning_plateau.core.tape import Operation, Tape
from lightning_plateau.core.updates import ADAPTIVE

_SCALE_FREE = ADAPTIVE | {"LBFGS"}


@dataclass(frozen=True)
class SummedLoss(Rule):
    """The loss is a sum over the batch.

    What it detects:
        A loss function with ``reduction="sum"``, or a sum written by hand over all errors of a
        batch, that makes up most of the loss and is divided by nothing after it. With an optimizer
        that takes the gradient as it is (SGD) that is likely a step as many times too long; Adam
        and its kin divide the gradient by its own size, so there it is only possible. Units of a
        rectifier that were alive at first and died are put down to such a step.

    Why it matters:
        The gradient grows with the batch: a learning rate that fits a mean is too high as many
        times as there are terms, and it must be found anew for every batch size.

    Example:
        >>> from lightning_plateau.core.profile import OptimizerFact, Profile
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (64, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (64, 3))
        >>> sides = (Operand("operation", 0, shape=(64, 3)), Operand("batch", 1, "1", (64,)))
        >>> loss = Operation(1, "cross_entropy", "", sides, (), attributes={"reduction": "sum"})
        >>> profile = Profile(optimizers=(OptimizerFact("SGD"),))
        >>> run = history(profile=profile, tapes=[Tape(0, (fc, loss), root=1)])
        >>> SummedLoss().check(run).message
        'the loss is a sum of 64 terms, divided by nothing (cross_entropy)'

    Remedies:
        decay-learning-rate undoes it in effect; a mean in place of the sum mends it.

    Known limitations:
        A sum whose learning rate was chosen for it is right; so this is only said while training
        fails.

    References:
        Goyal et al., 2017, Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour.
    """

    code: ClassVar[str] = "LP704"
    name: ClassVar[str] = "summed-loss"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (ACTIVATION_DEAD,)
    explains: ClassVar = ("LP301", "LP307", "LP402", "LP403", "LP404", "LP406")
    remedies: ClassVar = ("decay-learning-rate",)
    why: ClassVar[str] = "the gradient, and with it the step, grows with the size of the batch"

    fewest_terms: int = 8
    least_share: float = 0.5
    confidence: float = 0.6
    confidence_where_scale_free: float = 0.3

    def check(self, history: History) -> Finding | None:
        """Return the fault where most of the loss is an undivided sum over a batch."""
        for tape in history.tapes:
            for summed in (*_called(tape), *_by_hand(tape)):
                terms = _terms(summed)
                if terms >= self.fewest_terms and self._is_the_loss(history, tape, summed):
                    return self._report(history, tape, summed, terms)
        return None

    def _is_the_loss(self, history: History, tape: Tape, summed: Operation) -> bool:
        """Whether ``summed`` makes up most of what backward starts from, undivided."""
        if tape.root is None or not 0 <= tape.root < len(tape):
            return False
        if tape.root == summed.index:
            return True
        part = summed.statistics.get("mean", 0.0)
        whole = tape.operations[tape.root].statistics.get("mean", 0.0)
        whole *= max(1, history.profile.accumulate_grad_batches)
        if not (isfinite(part) and isfinite(whole)) or part == 0.0:
            return False
        return self.least_share <= whole / part <= 1.0 / self.least_share

    def _report(self, history: History, tape: Tape, summed: Operation, terms: int) -> Finding:
        kinds = {optimizer.kind for optimizer in history.profile.optimizers}
        free = bool(kinds) and kinds <= _SCALE_FREE
        finding = self.finding(
            history,
            self.confidence_where_scale_free if free else self.confidence,
            f"the loss is a sum of {terms} terms, divided by nothing ({summed.site})",
            evidence=(Evidence("terms summed", float(terms), 1.0, summed.site),),
            fix="take the mean: leave out reduction='sum', or .mean() in place of .sum(); "
            f"or divide the learning rate by {terms}",
            where=summed.site,
            step=tape.step,
        )
        killed = not free and units_died(history)
        return replace(finding, explains=(*self.explains, "LP501")) if killed else finding


def _called(tape: Tape) -> list[Operation]:
    """Return the loss functions that sum over their batch."""
    return [loss for loss in tape.losses if loss.attributes.get("reduction") == "sum"]


def _by_hand(tape: Tape) -> list[Operation]:
    """Return the sums to a single number of all errors of a comparison, or of a loss's terms."""
    compared = {comparison.operation.index for comparison in comparisons(tape)}
    return [
        operation
        for operation in closing(tape)
        if operation.name in ("sum", "nansum")
        and not operation.shape
        and operation.operands
        and compared & {o.index for o in tape.ancestors(operation)}
    ]


def _terms(summed: Operation) -> int:
    """Return over how many samples, or errors where written by hand, ``summed`` runs."""
    given = summed.operands[0].shape if summed.operands else ()
    if summed.name in ("sum", "nansum"):
        return prod(given) if given else 1
    return given[0] if given else 1
