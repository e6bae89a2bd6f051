"""What one training of one program showed, in plain values that can be stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.occasions import When
from tests.faults.observation import is_head, observe
from tests.faults.program import Program


@dataclass(frozen=True)
class Call:
    """A fault that was named: its code, how sure, and after how many optimizer steps.

    Attributes:
        code: Code of the finding.
        confidence: What the finding claims, in (0, 1].
        step: Steps made when it was said first.
    """

    code: str
    confidence: float
    step: int


@dataclass(frozen=True)
class Result:
    """One training of one program from one seed.

    Attributes:
        program: Name of the program.
        part: ``"tuned"`` or ``"validation"``.
        family: Kind of model.
        data: Which data.
        expected: Codes of which one should come first; empty for a healthy program.
        accepted: Codes that are true as well.
        seed: Seed of the training.
        heads: The faults that stood at the end, the most probable first.
        told: Those that were named at any time, in order, withdrawn ones included.
        folded: Codes at the end that another accounts for.
        steps: Optimizer steps of the training.
        error: What the training died of; ``""`` where it ended well.
        failures: Rules that raised, and ways in which the callback gave up.
        learned: Whether the model can do its task in the end; None where nobody asks.
        elapsed_s: Seconds that it took.
        shows: Codes of what the fault does, which should be named as well, under it or beside it.
        notes: Codes of the remarks at the end.
        experiments: ``"when-stuck"``, or ``"never"`` where none were allowed.
        tried: Experiments that were made, and the training steps that each took.
    """

    program: str
    part: str
    family: str
    data: str
    expected: tuple[str, ...]
    accepted: tuple[str, ...]
    seed: int
    heads: tuple[Call, ...]
    told: tuple[Call, ...]
    folded: tuple[str, ...]
    steps: int
    error: str = ""
    failures: tuple[str, ...] = ()
    learned: bool | None = None
    elapsed_s: float = 0.0
    shows: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    experiments: When = "when-stuck"
    tried: Mapping[str, float] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong with the program."""
        return not self.expected

    @property
    def rank(self) -> int | None:
        """Place of the first expected code among the heads, from 1; None where it is missing."""
        places = [n for n, head in enumerate(self.heads, 1) if head.code in self.expected]
        return places[0] if places else None

    @property
    def detected_at(self) -> int | None:
        """Steps made when an expected code was named first; None where none stood at the end."""
        steps = [call.step for call in self.told if call.code in self.expected]
        return min(steps) if steps and self.rank is not None else None

    @property
    def certain(self) -> bool:
        """Whether an expected code was named with certainty: by facts, not by weighing."""
        return any(c.confidence == 1.0 and c.code in self.expected for c in self.told)

    @property
    def named(self) -> frozenset[str]:
        """All codes of the end: faults that stood, what is explained by them, and remarks."""
        return frozenset([*(call.code for call in self.heads), *self.folded, *self.notes])

    def right(self, call: Call) -> bool:
        """Whether ``call`` is true of the program."""
        return call.code in (*self.expected, *self.accepted, *self.shows)


def train(program: Program, seed: int, experiments: When = "when-stuck") -> Result:
    """Train ``program`` from ``seed`` under the eyes of the callback."""
    start = time.perf_counter()
    seen = observe(program, seed, experiments=experiments)

    def call(finding: Finding) -> Call:
        step = seen.told_at.get(finding.code, seen.history.step)
        return Call(finding.code, finding.confidence, step)

    return Result(
        program.name,
        program.part,
        program.family,
        program.data,
        program.expected,
        program.accepted,
        seed,
        heads=tuple(map(call, seen.heads)),
        told=tuple(call(finding) for finding in seen.told if is_head(finding)),
        folded=tuple(finding.code for finding in seen.findings if finding.explained_by),
        steps=seen.history.step,
        error=seen.error,
        failures=tuple(f.message for f in seen.told if f.code == "LP903" and "failed" in f.message),
        learned=seen.learned,
        elapsed_s=round(time.perf_counter() - start, 2),
        shows=program.shows,
        notes=tuple(f.code for f in seen.findings if f.severity is Severity.INFO),
        experiments=experiments,
        tried=dict(seen.tried),
    )
