"""Effects: what came of the sick trainings, and the tables that tell it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks.harm import Healthy
from tests.faults.accuracy import share, table


@dataclass(frozen=True)
class Effect:
    """One sick training under one approach.

    Attributes:
        case: Name of the case.
        fault: What is wrong with it.
        seed: Seed of the training.
        approach: Name of the approach.
        accuracy: Accuracy on the validation samples in the end.
        target: Accuracy from which on it is repaired.
        steps: Steps made, a restart included.
        elapsed_s: Seconds that it took.
        notes: What was done.
    """

    case: str
    fault: str
    seed: int
    approach: str
    accuracy: float
    target: float
    steps: int
    elapsed_s: float
    notes: tuple[str, ...] = ()

    @property
    def repaired(self) -> bool:
        """Whether it ended near where its healthy twin does."""
        return self.accuracy >= self.target

    @property
    def line(self) -> str:
        """The result in a line."""
        verdict = "ok" if self.repaired else "SICK"
        return (
            f"{verdict:<6}{self.case}/{self.seed} {self.approach}: {self.accuracy:.3f} "
            f"of {self.target:.3f}, {self.elapsed_s:.1f} s"
        )


Key = tuple[str, int]


def report(
    sick: Sequence[Effect], healthy: Sequence[Healthy], approaches: Sequence[str], where: str
) -> str:
    """Return all tables in Markdown, with what they were measured on."""
    untreated = {(e.case, e.seed): e for e in sick if e.approach == approaches[0]}
    counted = {key for key, effect in untreated.items() if not effect.repaired}
    chosen = [e for e in sick if (e.case, e.seed) in counted]
    zoo = sum(untreated[key].fault == "zoo" for key in counted)
    said = (
        f"{where}. {len(untreated)} trainings were made wrong; {len(counted)} of them ended sick "
        f"and count ({len(counted) - zoo} generated, {zoo} of the zoo)."
    )
    blocks = [
        said,
        _totals(chosen, untreated, approaches),
        "Share repaired, by fault:",
        _by_fault(chosen, approaches),
    ]
    return "\n\n".join([*blocks, *_harm(healthy)])


def _totals(chosen: Sequence[Effect], untreated: dict[Key, Effect], names: Sequence[str]) -> str:
    rows = []
    for name in names:
        own = [e for e in chosen if e.approach == name]
        if not own:
            continue
        pairs = [(e, untreated[e.case, e.seed]) for e in own]
        gain = 100 * float(np.mean([e.accuracy - before.accuracy for e, before in pairs]))
        steps = sum(e.steps for e in own) / sum(before.steps for _, before in pairs)
        seconds = float(np.median([e.elapsed_s / before.elapsed_s for e, before in pairs]))
        rows.append([name, _repaired(own), f"{gain:+.1f}", f"{steps:.2f}", f"{seconds:.2f}"])
    head = ["approach", "repaired", "points of accuracy gained", "steps", "time"]
    return table(head, rows)


def _by_fault(chosen: Sequence[Effect], names: Sequence[str]) -> str:
    present = [name for name in names if any(e.approach == name for e in chosen)]
    faults = sorted({e.fault for e in chosen}, key=lambda fault: (fault == "zoo", fault))
    rows = [
        [fault, str(len({(e.case, e.seed) for e in own})), *_cells(own, present)]
        for fault in faults
        for own in [[e for e in chosen if e.fault == fault]]
    ]
    return table(["fault", "trainings", *present[1:]], rows)


def _cells(own: Sequence[Effect], names: Sequence[str]) -> list[str]:
    return [_repaired(e for e in own if e.approach == name) for name in names[1:]]


def _repaired(effects: Iterable[Effect]) -> str:
    values = [e.repaired for e in effects]
    return share(float(np.mean(values))) if values else "–"


def _harm(healthy: Sequence[Healthy]) -> list[str]:
    if not healthy:
        return []
    touched = [one for one in healthy if one.touched]
    worse = [one for one in healthy if one.worse]
    count, seeds = len({one.program for one in healthy}), len({one.seed for one in healthy})
    said = (
        f'Healthy trainings under `policy="auto"`: {len(healthy)} ({count} programs, '
        f"{seeds} seed{'s' * (seeds > 1)}). In {len(touched)} of them a remedy above safe was "
        f"tried; {len(worse)} ended worse than untreated by more than seeds differ."
    )
    rows = [
        [one.program, str(one.seed), "; ".join(one.touched), "worse" if one.worse else "no worse"]
        for one in touched
    ]
    return [said, *([table(["program", "seed", "tried", "in the end"], rows)] if rows else [])]
