"""LP201: the loss is NaN or infinite."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_plateau.core.breakdown import breakdown, broken_rows, seen_losses
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS


@dataclass(frozen=True)
class NonFiniteLoss(Rule):
    """The training loss is NaN or infinite.

    What it detects:
        A loss that is NaN or infinite, unless the run has recovered from it: at least 100 finite
        losses since, and less than 1 % of all losses lost. The finding says at which step it
        began; where gradients or parameters broke before the loss, it leaves the lead to them.

    Why it matters:
        Backward turns one NaN into NaN gradients everywhere, and one step with those destroys
        every parameter. Nothing that follows is training.

    Example:
        >>> from lightning_plateau.testing import history
        >>> finding = NonFiniteLoss().check(history(loss=[2.3, 2.1, float("nan"), float("nan")]))
        >>> finding.step, finding.message
        (2, 'the loss is NaN at step 2: 2 of 4 losses are not finite')
        >>> NonFiniteLoss().check(history(loss=[2.3, 2.1, 1.9])) is None
        True

    Remedies:
        skip-step leaves out the steps that would destroy the parameters; roll-back returns to
        parameters that were still finite; decay-learning-rate where the loss had been diverging.
        If no remedy holds, stop-training: what is NaN does not recover.

    Known limitations:
        It is a symptom. Where the first NaN was born is said by the rules above it: the data
        (LP102), the first operation (LP204), too long a step (LP406).

    References:
        Goodfellow et al., 2016, Deep Learning, section 4.1 (overflow and underflow).
    """

    code: ClassVar[str] = "LP201"
    name: ClassVar[str] = "non-finite-loss"
    symptom: ClassVar[bool] = True
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS, GRADIENT_NORM)
    explains: ClassVar = ("LP202", "LP203", "LP402", "LP404", "LP605")
    remedies: ClassVar = ("skip-step", "roll-back", "decay-learning-rate", "stop-training")
    why: ClassVar[str] = "one step with a loss that is not finite destroys every parameter"

    def check(self, history: History) -> Finding | None:
        """Return the fault where losses are not finite and the run has not recovered."""
        broke = breakdown(history)
        if broke.loss is None:
            return None
        losses = seen_losses(history)
        broken = broken_rows(losses)
        value = float(losses.values[broken.argmax()])
        many = int(broken.sum())
        finding = self.finding(
            history,
            0.99,  # a symptom is never more certain than its cause
            f"the loss is {'NaN' if math.isnan(value) else 'infinite'} at step {broke.loss}: "
            f"{many} of {len(losses)} losses {'is' if many == 1 else 'are'} not finite",
            evidence=(Evidence(LOSS.tag, value, where=f"step {broke.loss}"),),
            fix="look at the batch of that step, and for log, sqrt, exp or a division in the "
            "network and the loss; where the operation is known, a finding of its own names it",
            step=broke.loss,
        )
        if broke.origin == "loss":
            return finding
        consequences = ("LP402", "LP404", "LP605")
        return replace(finding, explains=consequences)
