"""The abstract rule: History in, Finding or None out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import Signal
from lightning_plateau.core.stalled import stalled_short

Remark = Literal["never", "while-well", "while-falling"]
Method = Literal["", "configure_optimizers", "training_step"]


@dataclass(frozen=True)
class Rule(ABC):
    """One fault and how to recognize it.

    A rule is a frozen dataclass whose fields are its thresholds, and one pure method. It never
    raises, whatever the history holds; it returns None when it cannot know.

    Class attributes:
        code: Stable code, never reused.
        name: The fault in kebab case, readable after "the training shows …".
        severity: How bad the fault is, were it real.
        symptom: True for what can be seen from outside (a flat loss); False for a cause.
        needs_failure: True where the fault may only be reported while some symptom is there;
            findings of confidence 1.0 are always reported.
        remark: ``"while-well"`` where the fault, while no symptom is there, is told as a remark all
            the same; ``"while-falling"``: only until the loss has come to rest, or the run is over,
            with much of the loss left: then it is a fault. ``"never"``: it is not told.
        last_resort: True where the fault is only reported while no other cause is.
        requires: Signals without which the rule has nothing to say; they decide what is measured.
        explains: Codes of the symptoms and lesser causes that this fault accounts for.
        remedies: Names of remedies in the order in which to try them.
        method: Method of the module that the fault is mended in where no operation on the tape
            stands for it: ``"configure_optimizers"`` or ``"training_step"``.
        why: What the fault does to training, one sentence.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity] = Severity.ERROR
    symptom: ClassVar[bool] = False
    needs_failure: ClassVar[bool] = True
    remark: ClassVar[Remark] = "never"
    last_resort: ClassVar[bool] = False
    requires: ClassVar[tuple[Signal, ...]] = ()
    explains: ClassVar[tuple[str, ...]] = ()
    remedies: ClassVar[tuple[str, ...]] = ()
    method: ClassVar[Method] = ""
    why: ClassVar[str] = ""

    @abstractmethod
    def check(self, history: History) -> Finding | None:
        """Return the fault, if ``history`` shows it."""

    def stands(self, finding: Finding, history: History) -> bool:
        """Return whether what ``check`` has found is a fault, though no symptom shows.

        It is asked where ``needs_failure``.
        """
        return self.remark == "while-falling" and stalled_short(history)

    def finding(
        self,
        history: History,
        confidence: float,
        message: str,
        *,
        evidence: tuple[Evidence, ...] = (),
        fix: str = "",
        where: str = "",
        step: int | None = None,
        remedies: tuple[str, ...] | None = None,
    ) -> Finding:
        """Build this rule's finding; ``step`` defaults to the last step of ``history``."""
        return Finding(
            code=self.code,
            name=self.name,
            step=history.step if step is None else step,
            severity=self.severity,
            confidence=min(1.0, max(0.0, confidence)),
            message=message,
            evidence=evidence,
            why=self.why,
            fix=fix,
            where=where,
            remedies=self.remedies if remedies is None else remedies,
            explains=self.explains,
        )
