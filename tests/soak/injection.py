"""What is injected into one training, drawn at random from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

STEPS = 36
"""Optimizer steps of a training that nobody stops."""

OURS = (
    "rule", "probe", "treatment", "experiment", "logger", "announcer", "report", "statistics",
    "journal", "disk full", "folder is a file", "folder vanishes",
)  # fmt: skip
"""Failures of the library's own, or of its disk: the training must not notice."""
THEIRS = ("training step", "validation step", "other callback", "data", "interrupt")
"""Failures of the user's: the training ends as it would have, and what is known is kept."""
NUMBERS = ("NaN loss", "NaN data", "NaN gradient")
KILLS = ("SIGKILL", "SIGTERM", "SIGKILL from outside", "SIGTERM from outside")
RANKS = (
    "rank stalls", "rank dies", "rank is killed", "NaN on one rank", "stuck on one rank",
    "rule on one rank", "probe on one rank", "treatment on one rank", "announcer on rank zero",
)  # fmt: skip
KINDS = (*OURS, *THEIRS, *NUMBERS, *KILLS, *RANKS)
POLICIES = ("observe", "safe", "auto")


@dataclass(frozen=True)
class Injection:
    """One fault, and the training that it is injected into.

    Attributes:
        number: Its place in the plan.
        kind: One of ``KINDS``.
        at: Optimizer step, or call of the sabotaged function, at which it happens.
        where: What is sabotaged, in [0, 1): each kind makes its own choice of it.
        policy: Policy of the callback.
        module: Name of what is trained.
        every_n_steps: Optimizer steps between diagnoses.
        check: Whether the training begins with experiments.
        changed: Whether a resumed training is watched with other settings.
    """

    number: int
    kind: str
    at: int
    where: float
    policy: str
    module: str
    every_n_steps: int
    check: bool
    changed: bool

    @property
    def distributed(self) -> bool:
        """Whether two ranks train."""
        return self.kind in RANKS

    @property
    def rank(self) -> int:
        """The rank on which it happens, where there are two."""
        return 0 if self.kind.endswith("zero") else int(self.where * 1000) % 2

    def choice(self, names: Sequence[T]) -> T:
        """Return what is sabotaged of several things."""
        return names[int(self.where * len(names))]

    def __str__(self) -> str:
        settings = f"{self.policy}, {self.module}, every {self.every_n_steps}"
        return f"{self.number} {self.kind} at {self.at} where {self.where:.2f} ({settings})"


def plan(faults: int, seed: int, kinds: tuple[str, ...] = KINDS) -> list[Injection]:
    """Return so many injections; every kind gets its turn."""
    draw = random.Random(seed)
    turns = [
        kind for _ in range(faults // len(kinds) + 1) for kind in draw.sample(kinds, len(kinds))
    ]
    return [
        Injection(
            number,
            kind,
            at=draw.randrange(STEPS),
            where=draw.random(),
            policy=draw.choice(POLICIES),
            module=draw.choice(("healthy", "healthy", "softmax", "hot")),
            every_n_steps=draw.choice((3, 5, 10)),
            check=kind == "experiment" or draw.random() < 0.2,
            changed=draw.random() < 0.5,
        )
        for number, kind in enumerate(turns[:faults])
    ]
