"""The choice of what is tried next: findings, policy and past in, one remedy or none out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.remedy import Intervention, Outcome, Remedy, Safety, Verdict
from lightning_plateau.treatment.policy import Catalogue, Policy

STOP = "stop-training"
SHORTENS = "decay-learning-rate"
"""What shortens steps that were too long."""
CALM = 0.02
"""Share of its size by which a loss may have risen that stands still."""
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

    def _of(self, code: str, remedy: str) -> list[Outcome]:
        return [o for o in self.outcomes if (o.code, o.remedy) == (code, remedy)]

    def refuted(self, code: str, remedy: str, *, however_broken: bool = False) -> bool:
        """Whether a remedy was the wrong one for a code: it was reverted in a run that went on.

        Args:
            code: Code of the finding.
            remedy: Name of the remedy.
            however_broken: Whether a run that broke tells too, as where there is nothing stronger.
        """
        return any(
            o.verdict is Verdict.REVERTED and (however_broken or not _broken(o))
            for o in self._of(code, remedy)
        )

    def level(self, code: str, remedy: str) -> int:
        """Count how often a remedy was not enough for a code: kept in vain, or the run broke."""
        return sum(
            o.verdict is Verdict.KEPT or (o.verdict is Verdict.REVERTED and _broken(o))
            for o in self._of(code, remedy)
        )

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
    urgent: bool = False,
) -> Choice:
    """Choose the remedy to try next, if any. A pure function.

    The remedies of a cause come before those of its symptoms.

    Args:
        findings: What is wrong now, the most probable cause first.
        policy: What may be done.
        catalogue: Remedies by name.
        past: What was done so far.
        step: Optimizer step.
        obstacles: Why a remedy cannot work in this run, by its name.
        urgent: Whether the run is worth nothing as it is, so that waiting gains nothing.

    Example:
        >>> choose((), Policy.auto(), {}, Past(), 100).remedy is None
        True
    """
    permitted = policy.permitted(catalogue)
    fault = _certain_fault(findings, catalogue)
    situation = _Situation(policy, catalogue, permitted, past, obstacles or {}, fault)
    waiting = _wait(policy, past, step, urgent=urgent)
    if waiting:
        return Choice(waiting=waiting)
    withheld: list[Withheld] = []
    rehearsed: set[str] = set()
    for finding, name in _in_order(findings, situation):
        if finding.code in rehearsed:
            continue
        reason = _reason_against(finding, name, situation)
        if reason is None:
            return Choice(_at_level(finding, name, situation), finding, tuple(withheld))
        withheld.append(Withheld(finding.code, name, reason))
        if past.rehearsed(finding.code, name):
            rehearsed.add(finding.code)
    return Choice(withheld=tuple(withheld))


def _wait(policy: Policy, past: Past, step: int, *, urgent: bool) -> str:
    trial = past.on_trial
    if trial is not None:
        return f"{trial.remedy} is on trial since step {trial.step}"
    last = past.last_step
    if last is not None and step - last < policy.cooldown_steps and not urgent:
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


def _in_order(findings: Sequence[Finding], situation: _Situation) -> list[tuple[Finding, str]]:
    """Return what may be tried for what: causes before symptoms, each in the order of its list."""
    causes_first = sorted(findings, key=lambda finding: bool(finding.explained_by))
    return [(f, name) for f in causes_first for name in _candidates(f, situation)]


def _candidates(finding: Finding, situation: _Situation) -> tuple[str, ...]:
    """Return the names of the finding's remedies that exist and are more than advice."""
    known = situation.catalogue
    if situation.past.returns(known, finding.code) >= MOST_RETURNS and STOP in known:
        return (STOP,)
    return tuple(n for n in finding.remedies if n in known and known[n].safety is not Safety.ADVICE)


def _broken(outcome: Outcome) -> bool:
    """Whether the remedy may only have been too weak.

    So it is where the loss was not finite at the end, and where the run had begun again. Steps
    that are short enough for the loss to stand still only become too short by more of it.
    """
    if outcome.before.get("begun_again"):
        return outcome.remedy != SHORTENS or not _calm(outcome)
    finite = outcome.after.get("finite", 1.0)
    return isinstance(finite, float) and finite < 0.5


def _calm(outcome: Outcome) -> bool:
    """Whether the loss was no higher at the end of a trial than before."""
    before, after = outcome.before.get("loss"), outcome.after.get("loss")
    if not (isinstance(before, float) and isinstance(after, float)):
        return False
    return after <= before + CALM * abs(before)


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
    safe = remedy.safety is Safety.SAFE
    if past.refuted(finding.code, name, however_broken=safe):
        return "it was tried for this fault, did not help and was reverted"
    if safe:
        return None
    if past.level(finding.code, name) >= len(remedy.levels):
        return "it was tried at every level for this fault"
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
    level = situation.past.level(finding.code, name)
    return remedy(**remedy.levels[min(level, len(remedy.levels) - 1)])
