"""Options: what can be tried on a run now, what stands against the rest, and which is best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.journal import Journal, Note
from lightning_plateau.core.remedy import Safety
from lightning_plateau.remedies import by_name
from lightning_plateau.training.run import Run
from lightning_plateau.treatment import rehearsal
from lightning_plateau.treatment.choice import Choice, Past, Withheld, choose
from lightning_plateau.treatment.policy import Policy
from lightning_plateau.treatment.setback import since_well
from lightning_plateau.treatment.tournament import FIRST_ROUND, MOST, Candidate, compete
from lightning_plateau.treatment.trial import LEAST_STEPS


class Options:
    """The remedies that the policy permits, for one run.

    Args:
        run: The run.
        policy: What may be done.
        journal: Where it is written down.

    Attributes:
        policy: What may be done, scaled to the run once its length is known.
        planned_steps: Optimizer steps that the run is to make; None where that does not matter.
        permitted: The remedies that may be applied, by name.
    """

    def __init__(self, run: Run, policy: Policy, journal: Journal) -> None:
        self.policy = policy
        self.planned_steps: int | None = None
        self._run = run
        self._journal = journal
        self._catalogue = by_name()
        self.permitted = policy.permitted(self._catalogue)
        self._told: set[tuple[str, str]] = set()

    @property
    def step(self) -> int:
        """Optimizer steps made."""
        return self._run.step

    def is_safe(self, remedy: str) -> bool:
        """Whether a remedy is known and graded safe."""
        return remedy in self._catalogue and self._catalogue[remedy].safety is Safety.SAFE

    def best(self, findings: Sequence[Finding], *, urgent: bool) -> Candidate:
        """Return what to try for ``findings``, and say what is withheld; empty for nothing.

        Args:
            findings: What is wrong, in the order in which to treat it.
            urgent: Whether the run is worth nothing as it is, so that waiting gains nothing.
        """
        obstacles = self._obstacles()
        choice = self._choose(findings, obstacles, urgent=urgent)
        for withheld in choice.withheld:
            self._tell(withheld)
        if choice.remedy is None or choice.finding is None or self._is_elsewhere(choice):
            return Candidate()
        first = Candidate(choice.remedy, choice.finding)
        if not self.policy.tournament or self.is_safe(choice.remedy.name):
            return first
        return self._winner(findings, first, obstacles, urgent=urgent)

    def _choose(
        self, findings: Sequence[Finding], obstacles: Mapping[str, str], *, urgent: bool
    ) -> Choice:
        unsafe = tuple(m for m in self._journal.interventions if not self.is_safe(m.remedy))
        outcomes = tuple(o for o in self._journal.outcomes if not self.is_safe(o.remedy))
        past = Past(unsafe, outcomes)
        return choose(
            findings, self.policy, self._catalogue, past, self.step, obstacles, urgent=urgent
        )

    def _is_elsewhere(self, choice: Choice) -> bool:
        """Whether nothing is to be treated: the loss rose because of what is trained on."""
        if choice.remedy is None or choice.finding is None or self.is_safe(choice.remedy.name):
            return False
        found = since_well(self._run)
        if found is None or not found.elsewhere:
            return False
        self._tell(Withheld(choice.finding.code, choice.remedy.name, str(found)))
        return True

    def _winner(
        self,
        findings: Sequence[Finding],
        first: Candidate,
        obstacles: Mapping[str, str],
        *,
        urgent: bool,
    ) -> Candidate:
        """Return the winner among all that could be tried now; ``first`` where none is better."""
        candidates, taken = [first], dict(obstacles)
        while len(candidates) < MOST:
            taken[candidates[-1].name] = "it is compared"
            choice = self._choose(findings, taken, urgent=urgent)
            if choice.remedy is None or choice.remedy.final:
                break
            candidates.append(Candidate(choice.remedy, choice.finding))
        batches = tuple(self._run.batches)
        if len(candidates) < 2 or not batches or self.policy.dry_run:
            return first
        obstacle = rehearsal.obstacle(self._run)
        if obstacle is not None:
            self._journal.append(Note(self.step, f"no tournament: {obstacle}"))
            return first
        standings = compete(self._run, candidates, batches)
        told = ", ".join(f"{s.candidate.name} {s.loss:.4g}" for s in standings)
        self._journal.append(
            Note(self.step, f"tournament, loss after {FIRST_ROUND} steps or more: {told}")
        )
        best = standings[0].candidate
        return first if best.remedy is None else best

    @property
    def _is_too_late(self) -> bool:
        """Whether the run ends before a remedy could be judged."""
        if self.planned_steps is None:
            return False
        left = self.planned_steps - self.step
        return left < (LEAST_STEPS if self._run.worthless else self.policy.probation_steps)

    def _obstacles(self) -> dict[str, str]:
        obstacles = {}
        for name, kind in self.permitted.items():
            obstacle = kind().obstacle(self._run)
            if self._is_too_late and not self.is_safe(name):
                obstacle = "the run ends before it could be judged"
            if obstacle is None and kind.standing and self.is_safe(name):
                obstacle = "it is in force already"
            if obstacle is not None:
                obstacles[name] = obstacle
        return obstacles

    def _tell(self, withheld: Withheld) -> None:
        key = (withheld.code, withheld.remedy)
        if withheld.remedy in self.permitted and key not in self._told:
            self._told.add(key)
            text = f"withheld {withheld.remedy} for {withheld.code}: {withheld.reason}"
            self._journal.append(Note(self.step, text))

    def stand_guard(self) -> None:
        """Put the safe remedies that stand guard in force: training starts."""
        for kind in self.policy.from_the_start(self._catalogue):
            remedy = kind()
            obstacle = remedy.obstacle(self._run)
            if obstacle is None:
                remedy.apply(self._run)
            else:
                self._journal.append(
                    Note(self.step, f"{remedy.name} cannot stand guard: {obstacle}")
                )

    def told(self) -> list[list[str]]:
        """Return what was said to be withheld, in plain types, for a checkpoint."""
        return sorted(list(pair) for pair in self._told)

    def load(self, told: Iterable[Sequence[str]]) -> None:
        """Continue from what ``told`` returned."""
        self._told = {(code, remedy) for code, remedy in told}
