"""The state of a run in one value: which faults are left, what they account for, what was tried."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.remedy import Intervention, Outcome, Verdict


class Health(StrEnum):
    """The verdict on a run."""

    HEALTHY = "healthy"
    """No fault is left, and none was treated."""
    SICK = "sick"
    """At least one fault is left."""
    TREATED = "treated"
    """No fault is left, and a remedy that was kept is a reason for it."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A fault and the findings that it accounts for, in their order."""

    finding: Finding
    symptoms: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Treatment:
    """An intervention and what became of it; ``outcome`` is None while it is on probation."""

    intervention: Intervention
    outcome: Outcome | None = None

    @property
    def verdict(self) -> str:
        """In a word: kept, reverted, unfinished, in force, or dry run."""
        if self.intervention.dry_run:
            return "dry run"
        return "in force" if self.outcome is None else str(self.outcome.verdict)

    @property
    def helped(self) -> bool:
        """Whether the run was changed and the change stands."""
        reverted = self.outcome is not None and self.outcome.verdict is Verdict.REVERTED
        return not self.intervention.dry_run and not reverted


@dataclass(frozen=True, slots=True)
class Assessment:
    """The state of a run.

    Attributes:
        causes: Faults that are left, in the order of the diagnosis.
        remarks: Findings that are worth knowing and hurt nothing.
        passed: Faults that were found on the way and are gone, the first of each code.
        treatments: What was tried, in order.
    """

    causes: tuple[Cause, ...] = ()
    remarks: tuple[Finding, ...] = ()
    passed: tuple[Finding, ...] = ()
    treatments: tuple[Treatment, ...] = ()

    @property
    def health(self) -> Health:
        """The verdict."""
        if self.causes:
            return Health.SICK
        if self.passed and any(treatment.helped for treatment in self.treatments):
            return Health.TREATED
        return Health.HEALTHY


def assess(findings: Iterable[Finding], journal: Journal) -> Assessment:
    """Sort what was found and what was done.

    Args:
        findings: What the diagnosis says of the run now, causes first.
        journal: What happened until now.

    Example:
        >>> softmax = Finding("LP701", "softmax", 0, Severity.ERROR, 1.0, "…")
        >>> flat = Finding("LP401", "flat", 90, Severity.ERROR, 0.9, "…", explained_by="LP701")
        >>> state = assess((softmax, flat), Journal())
        >>> state.health.value, len(state.causes), state.causes[0].symptoms[0].code
        ('sick', 1, 'LP401')
    """
    findings = tuple(findings)
    codes = {finding.code for finding in findings}
    # A symptom whose cause is not listed must not vanish: it then stands for itself.
    folded = [f for f in findings if f.explained_by in codes - {f.code}]
    heads = [f for f in findings if f.explained_by not in codes - {f.code}]
    return Assessment(
        causes=tuple(
            Cause(head, tuple(f for f in folded if f.explained_by == head.code))
            for head in heads
            if head.severity is not Severity.INFO
        ),
        remarks=tuple(head for head in heads if head.severity is Severity.INFO),
        passed=_passed(journal, codes),
        treatments=_treatments(journal),
    )


def _passed(journal: Journal, codes: set[str]) -> tuple[Finding, ...]:
    first: dict[str, Finding] = {}
    for finding in journal.findings:
        if finding.severity is not Severity.INFO and not finding.explained_by:
            first.setdefault(finding.code, finding)
    return tuple(finding for code, finding in first.items() if code not in codes)


def _treatments(journal: Journal) -> tuple[Treatment, ...]:
    outcomes = {outcome.number: outcome for outcome in journal.outcomes}
    return tuple(Treatment(i, outcomes.get(i.number)) for i in journal.interventions)
