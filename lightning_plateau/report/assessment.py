"""The state of a run in one value: which faults are left, what they account for, what was tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.core.remedy import Intervention, Outcome, Verdict
from lightning_plateau.core.signal import LOSS

RECENT = 20


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
    """An intervention and what became of it, or a row of equal ones.

    Attributes:
        intervention: The first intervention; its values after are those of the last.
        outcome: What became of the last; None while it is on probation.
        times: How many there were.
        last_step: Step of the last.
    """

    intervention: Intervention
    outcome: Outcome | None = None
    times: int = 1
    last_step: int = -1

    @property
    def end(self) -> int:
        """Step of the verdict on the last, or of the last itself."""
        last = max(self.intervention.step, self.last_step)
        return last if self.outcome is None else self.outcome.step

    def continues_as(self, other: Treatment) -> bool:
        """Whether ``other`` is more of the same."""
        mine, its = self.intervention, other.intervention
        return (mine.remedy, mine.code, self.verdict) == (its.remedy, its.code, other.verdict)

    def joined(self, other: Treatment) -> Treatment:
        """Return this treatment with ``other`` after it."""
        made = replace(self.intervention, after=other.intervention.after)
        return Treatment(made, other.outcome, self.times + 1, other.intervention.step)

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
        broken: Whether the loss is not finite at the end of the run, whatever else is known.
    """

    causes: tuple[Cause, ...] = ()
    remarks: tuple[Finding, ...] = ()
    passed: tuple[Finding, ...] = ()
    treatments: tuple[Treatment, ...] = ()
    broken: bool = False

    @property
    def health(self) -> Health:
        """The verdict."""
        if self.causes or self.broken:
            return Health.SICK
        if self.passed and any(treatment.helped for treatment in self.treatments):
            return Health.TREATED
        return Health.HEALTHY


def assess(findings: Iterable[Finding], journal: Journal, history: History) -> Assessment:
    """Sort what was found and what was done.

    Args:
        findings: What the diagnosis says of the run now, causes first.
        journal: What happened until now.
        history: What was recorded until now.

    Example:
        >>> softmax = Finding("LP701", "softmax", 0, Severity.ERROR, 1.0, "…")
        >>> flat = Finding("LP401", "flat", 90, Severity.ERROR, 0.9, "…", explained_by="LP701")
        >>> state = assess((softmax, flat), Journal(), History())
        >>> state.health.value, len(state.causes), state.causes[0].symptoms[0].code
        ('sick', 1, 'LP401')
    """
    first = _first(journal)
    # The step that helps is the one at which a fault showed first, not the latest that shows it.
    findings = tuple(replace(f, step=min(f.step, first.get(f.code, f).step)) for f in findings)
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
        passed=_passed(first.values(), codes),
        treatments=treatments(journal),
        broken=_broken(history),
    )


def _broken(history: History) -> bool:
    # A run whose every step is skipped shows no fault to the rules; nobody would call it well.
    last = history[LOSS].tail(RECENT).values
    return len(last) > 0 and bool(np.isfinite(last).mean() < 0.5)


def _first(journal: Journal) -> dict[str, Finding]:
    first: dict[str, Finding] = {}
    for finding in journal.findings:
        first.setdefault(finding.code, finding)
    return first


def _passed(first: Iterable[Finding], codes: set[str]) -> tuple[Finding, ...]:
    return tuple(
        finding
        for finding in first
        if finding.severity is not Severity.INFO
        and not finding.explained_by
        and finding.code not in codes
    )


def treatments(journal: Journal) -> tuple[Treatment, ...]:
    """Return what was tried, in order; the same remedy again and again is one treatment.

    Two that take turns, as leaving a step out and then its batch, are two treatments.
    """
    outcomes = {outcome.number: outcome for outcome in journal.outcomes}
    merged: list[Treatment] = []
    for made in journal.interventions:
        single = Treatment(made, outcomes.get(made.number))
        place = _continued(merged, single)
        if place is None:
            merged.append(single)
        else:
            merged[place] = merged[place].joined(single)
    return tuple(merged)


def _continued(merged: Sequence[Treatment], single: Treatment) -> int | None:
    """Return the place of the treatment that ``single`` goes on with; None if it is another one."""
    latest = range(len(merged) - 1, max(-1, len(merged) - 3), -1)
    same = [place for place in latest if merged[place].continues_as(single)]
    if not same:
        return None
    between = merged[same[0] + 1 :]
    alike = (single.intervention.code, single.verdict)
    turns = all((one.intervention.code, one.verdict) == alike for one in between)
    return same[0] if turns else None
