"""Findings: what a rule says, with the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_plateau.core.history import History


class Severity(StrEnum):
    """How bad the fault is for the training, were it real."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A measured value beside its limit, and where it was measured.

    Attributes:
        quantity: What was measured: a signal's tag or a few words.
        value: The measured value.
        limit: The value that a sound training stays on the right side of; None for plain facts.
        where: Layer, parameter, operation or tensor; ``""`` for the run as a whole.
        unit: Unit of value and limit.
    """

    quantity: str
    value: float
    limit: float | None = None
    where: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault that a rule found.

    Attributes:
        code: Stable code, ``"LP301"``.
        name: The fault in kebab case, ``"exploding-gradients"``.
        step: Optimizer step at which it showed.
        severity: How bad the fault is.
        confidence: Probability in (0, 1] that the fault is there; 1.0 is true by construction.
        message: One sentence with a number in it.
        evidence: What it rests on.
        why: What the fault does to training, one sentence.
        fix: The line to change or the thing to do.
        where: The layer, parameter, operation or tensor at fault.
        line: The line of the user's code where it is called, or the method that has to do with it,
            ``"train.py:42"``; ``""`` where that is not known.
        remedies: Names of remedies in the order in which to try them.
        explains: Codes of the symptoms that this fault accounts for.
        explained_by: Code of the reported cause that accounts for this finding; ``""`` for none.

    Example:
        >>> Finding(
        ...     "LP401", "flat-loss", 200, Severity.ERROR, 0.9, "the loss stays at 2.30"
        ... ).certainty
        'likely'
    """

    code: str
    name: str
    step: int
    severity: Severity
    confidence: float
    message: str
    evidence: tuple[Evidence, ...] = ()
    why: str = ""
    fix: str = ""
    where: str = ""
    remedies: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    explained_by: str = ""
    line: str = ""

    @property
    def certain(self) -> bool:
        """Whether the fault is true by construction."""
        return self.confidence >= 1.0

    @property
    def certainty(self) -> str:
        """The confidence in a word: certain, likely (at least 0.6) or possible."""
        if self.certain:
            return "certain"
        return "likely" if self.confidence >= 0.6 else "possible"

    def plot(self, history: History | None = None) -> Figure:
        """Draw the finding: what was measured beside its limits, and its course over the run.

        Args:
            history: The run that it was found in, ``callback.history``; without it the evidence
                alone is drawn.

        Returns:
            A figure of matplotlib that belongs to no window; ``figure.savefig(path)`` writes it.

        Raises:
            ImportError: If matplotlib is not installed; the message names the extra.
        """
        from lightning_plateau.core.finding_plot import finding_plot

        return finding_plot(self, history)
