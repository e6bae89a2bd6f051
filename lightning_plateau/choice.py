"""The choice of what is tried next: findings, policy and past in, one remedy or none out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.remedy import Intervention, Outcome, Remedy, Safety, Verdict
from lightning_plateau.policy import Catalogue, Policy

STOP = "stop-training"
MOST_RETURNS = 3
"""How often a fault may come back after a remedy was kept, before the training is stopped."""


@dataclass(frozen=True, slots=True)
class Past:
    """What was done to a run so far.

    Attributes:
        interventions: Remedies that were applied for a finding, in order.
        outcomes: What became of them, in order.
    """

    interventions: tuple[Intervention, ...] = ()
    outcomes: tuple[Outcome, ...] = ()

    def verdicts(self, code: str, remedy: str) -> tuple[Verdict, ...]:
        """Return how the trials of a remedy for a code ended."""
        return tuple(o.verdict for o in self.outcomes if (o.code, o.remedy) == (code, remedy))

    def rehearsed(self, code: str, remedy: str) -> bool:
        """Whether a dry run has chosen that remedy for that code."""
        return any(i.dry_run and (i.code, i.remedy) == (code, remedy) for i in self.interventions)

    def returns(self, catalogue: Catalogue, code: str) -> int:
        """Count the remedies above safe that were kept for a fault: it came back each time."""
        return sum(
            outcome.code == code
            and outcome.verdict is Verdict.KEPT
            and not _is_safe(outcome.remedy, catalogue)
            for outcome in self.outcomes
        )

    @property
    def on_trial(self) -> Intervention | None:
        """The intervention that has no outcome yet; None for none."""
        judged = {outcome.number for outcome in self.outcomes}
        return next(
            (i for i in self.interventions[::-1] if not i.dry_run and i.number not in judged), None
        )

    @property
    def last_step(self) -> int | None:
        """Step of the last intervention or outcome; None for none."""
        steps = [i.step for i in self.interventions] + [o.step for o in self.outcomes]
        return max(steps, default=None)


@dataclass(frozen=True, slots=True)
class Withheld:
    """A remedy that was not tried, and why."""

    code: str
    remedy: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do next.

    Attributes:
        remedy: What to apply; None for nothing.
        finding: The finding that it answers; None where nothing is applied.
        withheld: Remedies that were considered before it, and why they were not chosen.
        waiting: Why nothing at all is chosen now: a trial, or a pause; empty otherwise.
    """

    remedy: Remedy | None = None
    finding: Finding | None = None
    withheld: tuple[Withheld, ...] = ()
    waiting: str = ""


@dataclass(frozen=True)
class _Situation:
    """All that one choice depends on."""

    policy: Policy
    catalogue: Catalogue
    permitted: Catalogue
    past: Past
    obstacles: Mapping[str, str]
    fault: Finding | None


def choose(
    findings: Sequence[Finding],
    policy: Policy,
    catalogue: Catalogue,
    past: Past,
    step: int,
    obstacles: Mapping[str, str] | None = None,
) -> Choice:
    """Choose the remedy to try next, if any. A pure function.

    Args:
        findings: What is wrong now, the most probable cause first.
        policy: What may be done.
        catalogue: Remedies by name.
        past: What was done so far.
        step: Optimizer step.
        obstacles: Why a remedy cannot work in this run, by its name.

    Example:
        >>> choose((), Policy.auto(), {}, Past(), 100).remedy is None
        True
    """
    permitted = policy.permitted(catalogue)
    fault = _certain_fault(findings, catalogue)
    situation = _Situation(policy, catalogue, permitted, past, obstacles or {}, fault)
    waiting = _wait(policy, past, step)
    if waiting:
        return Choice(waiting=waiting)
    withheld: list[Withheld] = []
    for finding in _causes_first(findings):
        for name in _candidates(finding, situation):
            reason = _reason_against(finding, name, situation)
            if reason is None:
                return Choice(_at_level(finding, name, situation), finding, tuple(withheld))
            withheld.append(Withheld(finding.code, name, reason))
            if past.rehearsed(finding.code, name):
                break
    return Choice(withheld=tuple(withheld))


def _wait(policy: Policy, past: Past, step: int) -> str:
    trial = past.on_trial
    if trial is not None:
        return f"{trial.remedy} is on trial since step {trial.step}"
    last = past.last_step
    if last is not None and step - last < policy.cooldown_steps:
        return f"{policy.cooldown_steps} steps must pass after step {last}"
    return ""


def _certain_fault(findings: Iterable[Finding], catalogue: Catalogue) -> Finding | None:
    """Return a fault that is certain and that no remedy mends: the code or the data must change."""
    return next(
        (
            finding
            for finding in findings
            if finding.certain
            and finding.severity is Severity.ERROR
            and not any(_mends(name, catalogue) for name in finding.remedies)
        ),
        None,
    )


def _mends(name: str, catalogue: Catalogue) -> bool:
    remedy = catalogue.get(name)
    return remedy is not None and not remedy.final and remedy.safety is not Safety.ADVICE


def _causes_first(findings: Sequence[Finding]) -> list[Finding]:
    """Order: causes, then symptoms whose cause offers no remedy of its own."""
    offering = {finding.code for finding in findings if finding.remedies}
    open_ones = [f for f in findings if f.explained_by not in offering]
    return sorted(open_ones, key=lambda finding: bool(finding.explained_by))


def _candidates(finding: Finding, situation: _Situation) -> tuple[str, ...]:
    """Return the names of the finding's remedies that exist and are more than advice."""
    known = situation.catalogue
    if situation.past.returns(known, finding.code) >= MOST_RETURNS and STOP in known:
        return (STOP,)
    return tuple(n for n in finding.remedies if n in known and known[n].safety is not Safety.ADVICE)


def _is_safe(name: str, catalogue: Catalogue) -> bool:
    remedy = catalogue.get(name)
    return remedy is not None and remedy.safety is Safety.SAFE


def _reason_against(finding: Finding, name: str, situation: _Situation) -> str | None:
    """Return why this remedy is not for this finding now; None where it is."""
    past, policy, remedy = situation.past, situation.policy, situation.catalogue[name]
    safe = remedy.safety is Safety.SAFE
    if name not in situation.permitted:
        return f"the policy does not permit it: it is graded {remedy.safety}"
    if situation.fault is not None and not safe:
        return f"it cannot mend {situation.fault.code} {situation.fault.name}, which is certain"
    if name in situation.obstacles:
        return situation.obstacles[name]
    spent = sum(not _is_safe(i.remedy, situation.catalogue) for i in past.interventions)
    if not safe and not remedy.final and spent >= policy.budget:
        return f"the budget of {policy.budget} interventions is spent"
    return _reason_in_the_past(finding, name, situation)


def _reason_in_the_past(finding: Finding, name: str, situation: _Situation) -> str | None:
    past, remedy = situation.past, situation.catalogue[name]
    if past.rehearsed(finding.code, name):
        return "it was chosen before, and what it does is unknown in a dry run"
    verdicts = past.verdicts(finding.code, name)
    if Verdict.REVERTED in verdicts:
        return "it was tried for this fault, did not help and was reverted"
    if remedy.safety is Safety.SAFE:
        return None
    if verdicts.count(Verdict.KEPT) >= len(remedy.levels):
        return "it was tried at every level for this fault, and the fault came back"
    if remedy.standing and _in_force(name, finding.code, past):
        return "it is in force already"
    return None


def _in_force(name: str, code: str, past: Past) -> bool:
    """Whether a standing remedy was put in force for another code."""
    reverted = {o.number for o in past.outcomes if o.verdict is Verdict.REVERTED}
    return any(
        i.remedy == name and i.code != code and not i.dry_run and i.number not in reverted
        for i in past.interventions
    )


def _at_level(finding: Finding, name: str, situation: _Situation) -> Remedy:
    """Return the remedy with the settings that follow on those that were kept."""
    remedy = situation.catalogue[name]
    kept = situation.past.verdicts(finding.code, name).count(Verdict.KEPT)
    return remedy(**remedy.levels[min(kept, len(remedy.levels) - 1)])
