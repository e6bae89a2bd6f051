"""The policy: what may be done to a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from lightning_plateau.core.remedy import Remedy, Safety

Grade = Literal["none", "safe", "unsafe"]
PolicyName = Literal["observe", "safe", "auto"]
Catalogue = Mapping[str, type[Remedy]]
LOOKS = 20
SHORTEST_LOOK = 10


@dataclass(frozen=True)
class Policy:
    """What may be done to a run.

    Args:
        remedies: Names of the remedies that may be tried; None for all up to the grade ``safety``.
        safety: The riskiest grade that may be tried where ``remedies`` is None: ``"none"``,
            ``"safe"`` or ``"unsafe"``. Remedies graded advice are never applied.
        budget: Largest number of interventions of a run that are not graded safe.
        cooldown_steps: Optimizer steps to wait after an intervention or its outcome, at most.
        probation_steps: Optimizer steps for which a remedy is watched before it is judged, at most.
        dry_run: Say what would be done, and do nothing.
        allow_user_overrides: Whether a remedy may overrule a value that the user has set.
        tournament: Whether remedies are compared on batches that were seen before, from the same
            state, so that the best is tried first. It takes some dozens of steps more for each
            choice; without it the order of the rules decides.

    Raises:
        ValueError: If a number is out of its range, or ``safety`` is no grade.

    Example:
        >>> Policy.auto().safety, Policy(remedies=("skip-step",)).budget
        ('unsafe', 8)
    """

    remedies: tuple[str, ...] | None = None
    safety: Grade = "safe"
    budget: int = 8
    cooldown_steps: int = 100
    probation_steps: int = 200
    dry_run: bool = False
    allow_user_overrides: bool = False
    tournament: bool = False

    def __post_init__(self) -> None:
        if self.remedies is not None:
            # A configuration file has lists only.
            object.__setattr__(self, "remedies", tuple(self.remedies))
        if self.safety not in get_args(Grade):
            raise ValueError(f"safety must be 'none', 'safe' or 'unsafe', but is {self.safety!r}")
        for name, least in (("budget", 0), ("cooldown_steps", 0), ("probation_steps", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} must be at least {least}, but is {value}")

    @classmethod
    def observe(cls) -> Policy:
        """Return the policy that never touches a run."""
        return cls(safety="none", budget=0)

    @classmethod
    def safe(cls) -> Policy:
        """Return the policy of what cannot hurt a healthy run."""
        return cls(safety="safe")

    @classmethod
    def auto(cls) -> Policy:
        """Return the policy of all remedies, each on trial."""
        return cls(safety="unsafe")

    @classmethod
    def named(cls, name: str) -> Policy:
        """Return the policy of that name.

        Raises:
            ValueError: If there is none of that name.

        Example:
            >>> Policy.named("safe") == Policy.safe()
            True
        """
        named = {"observe": cls.observe, "safe": cls.safe, "auto": cls.auto}
        if name not in named:
            raise ValueError(
                f"policy must be 'observe', 'safe', 'auto' or a Policy, but is {name!r}"
            )
        return named[name]()

    @classmethod
    def of(cls, policy: PolicyName | Policy, *, dry_run: bool = False) -> Policy:
        """Return ``policy``, or the one of that name; ``dry_run`` makes it a dry run."""
        found = cls.named(policy) if isinstance(policy, str) else policy
        return replace(found, dry_run=True) if dry_run else found

    def within(self, planned_steps: int | None) -> Policy:
        """Return the policy for a run of that many steps: short runs wait for less.

        Probation takes at most an eighth of the run and a pause a sixteenth.

        Example:
            >>> [Policy.auto().within(steps).probation_steps for steps in (400, None)]
            [50, 200]
        """
        if planned_steps is None:
            return self
        return replace(
            self,
            cooldown_steps=min(self.cooldown_steps, planned_steps // 16),
            probation_steps=min(self.probation_steps, max(20, planned_steps // 8)),
        )

    def looks_every(self, every_n_steps: int, planned_steps: int | None) -> int:
        """Return the steps between two looks at the run: a short run that is treated gets twenty.

        Example:
            >>> [Policy.auto().looks_every(50, steps) for steps in (100, 400, 10_000, None)]
            [10, 20, 50, 50]
            >>> Policy.safe().looks_every(50, 100)
            50
        """
        watches = self.remedies is None and self.safety != "unsafe"
        if watches or planned_steps is None:
            return every_n_steps
        # Rounded up: a run may be called stuck from a tenth of its steps on.
        return min(every_n_steps, max(SHORTEST_LOOK, -(-planned_steps // LOOKS)))

    def permitted(self, catalogue: Catalogue) -> Catalogue:
        """Return the remedies of ``catalogue`` that may be applied.

        Raises:
            ValueError: If ``remedies`` names one that is not there, or is advice.
        """
        applicable = {n: r for n, r in catalogue.items() if r.safety is not Safety.ADVICE}
        if self.remedies is not None:
            for name in self.remedies:
                if name not in applicable:
                    raise ValueError(
                        f"remedies must be among {', '.join(sorted(applicable))}, but has {name!r}"
                    )
            return {name: applicable[name] for name in self.remedies}
        grades = {"none": (), "safe": (Safety.SAFE,), "unsafe": (Safety.SAFE, Safety.UNSAFE)}
        return {n: r for n, r in applicable.items() if r.safety in grades[self.safety]}

    def from_the_start(self, catalogue: Catalogue) -> tuple[type[Remedy], ...]:
        """Return the remedies to put in force when training starts: the safe ones that stand guard.

        The first step that is not finite must not have been made when it is found.
        """
        if self.dry_run:
            return ()
        permitted = self.permitted(catalogue).values()
        return tuple(r for r in permitted if r.standing and r.safety is Safety.SAFE)
