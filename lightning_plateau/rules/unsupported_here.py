"""LP903: something could not be watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS


@dataclass(frozen=True)
class UnsupportedHere(Rule):
    """Something could not be watched.

    What it detects:
        What the library could not look at in this run, and why: a compiled module, whose forward
        pass is not taped; a folder that cannot be written to; a rule that failed; a hook of its own
        that failed, after which it stepped aside. This rule itself finds runs in which optimizers
        step and no loss is ever seen: backward was called past Lightning, and ``training_step``
        returned nothing.

    Why it matters:
        The training goes on and is not harmed. Faults that show only there are not found.

    Example:
        >>> from lightning_plateau.core.profile import ParameterFact, Profile
        >>> from lightning_plateau.testing import history
        >>> profile = Profile(parameters=(ParameterFact("fc.weight", "fc", (1, 4)),))
        >>> UnsupportedHere().check(history(profile=profile, step=50)).message
        'in 50 steps 0 losses were seen: whether the loss goes down is not known'

    Remedies:
        Advice only: call ``self.manual_backward(loss)``, or return the loss from ``training_step``.

    Known limitations:
        What other parts of the library could not do is told under this code as it happens.

    References:
        Lightning, Manual Optimization (documentation).
    """

    code: ClassVar[str] = "LP903"
    name: ClassVar[str] = "unsupported-here"
    severity: ClassVar[Severity] = Severity.INFO
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS,)
    why: ClassVar[str] = "the training goes on; findings that rest on it are not made"

    minimum_steps: int = 20

    def check(self, history: History) -> Finding | None:
        """Return a remark where steps are made and no loss is seen."""
        if not history.profile.parameters or history.step < self.minimum_steps:
            return None
        if len(history[LOSS]):
            return None
        return self.finding(
            history,
            1.0,
            f"in {history.step} steps 0 losses were seen: whether the loss goes down is not known",
            evidence=(Evidence("losses seen", 0.0, 1.0),),
            fix="use self.manual_backward(loss), or return the loss from training_step",
        )
