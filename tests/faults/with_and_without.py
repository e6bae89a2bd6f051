"""What experiments are worth: the same trainings with them and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from tests.faults.result import Result
from tests.faults.scores import Score, score
from tests.faults.tables import number, share, table

_INTRODUCTION = """
Each training was watched twice: with `experiments="when-stuck"`, as the callback comes, and with
`experiments="never"`. Counted are the faulty programs whose cause is **not certain** by facts (no
labels out of range, no softmax in the wrong place): the others need no experiment, and none is
made. Precision and false alarms are those of all trainings.
""".strip()


@dataclass(frozen=True)
class Pair:
    """One training, watched without experiments and with them."""

    without: Result
    with_them: Result

    @property
    def gain(self) -> int:
        """1 where experiments put the right cause first, −1 where they took it from there."""
        return int(self.with_them.rank == 1) - int(self.without.rank == 1)


def pairs(results: Sequence[Result]) -> list[Pair]:
    """Return the trainings that were watched both ways."""
    by = {(one.program, one.seed, one.experiments): one for one in results}
    return [
        Pair(one, by[one.program, one.seed, "when-stuck"])
        for one in results
        if one.experiments == "never" and (one.program, one.seed, "when-stuck") in by
    ]


def uncertain(found: Sequence[Pair]) -> list[Pair]:
    """Return those with a fault that no training of the program names with certainty."""
    certain = {one.without.program for one in found if one.without.certain}
    return [one for one in found if not one.without.healthy and one.without.program not in certain]


def comparison(results: Sequence[Result]) -> list[str]:
    """Return the chapter about experiments; nothing unless trainings were watched both ways."""
    found = pairs(results)
    if not found:
        return []
    return [
        "## With experiments and without",
        _INTRODUCTION,
        _summary(found),
        "### Experiment by experiment",
        _by_experiment(uncertain(found)),
        *_changed(uncertain(found)),
    ]


def _summary(found: Sequence[Pair]) -> str:
    parts = [part for part in ("tuned", "validation") if any(p.without.part == part for p in found)]
    columns = [_column([p for p in found if p.without.part == part]) for part in parts]
    names = [f"{part}, {how}" for part in parts for how in ("without", "with")]
    rows = zip(_ROWS, *(c for both in columns for c in both), strict=True)
    return table(["measure", *names], rows)


_ROWS = (
    "trainings whose cause is not certain",
    "top 1",
    "top 3",
    "precision, all trainings",
    "false alarms a healthy training, at any time",
    "steps of experiments, a faulty training",
    "steps of experiments, a healthy training",
    "the same as a share of its own steps",
)


def _column(found: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """Return the values without experiments, and with them."""
    sick, well = uncertain(found), [p for p in found if p.without.healthy]
    return (
        _values(
            score([p.without for p in sick]),
            score([p.without for p in found]),
            [p.without for p in sick],
            [p.without for p in well],
        ),
        _values(
            score([p.with_them for p in sick]),
            score([p.with_them for p in found]),
            [p.with_them for p in sick],
            [p.with_them for p in well],
        ),
    )


def _values(part: Score, whole: Score, sick: Sequence[Result], well: Sequence[Result]) -> list[str]:
    return [
        str(part.faulty),
        share(part.top_1),
        share(part.top_3),
        share(whole.precision),
        number(whole.alarms, 3),
        number(_spent(sick), 1),
        number(_spent(well), 1),
        share(_spent(well) / fmean(one.steps for one in well) if well else float("nan")),
    ]


def _spent(results: Sequence[Result]) -> float:
    return fmean(sum(one.tried.values()) for one in results) if results else float("nan")


def _by_experiment(found: Sequence[Pair]) -> str:
    names = sorted({name for pair in found for name in pair.with_them.tried})
    rows = []
    for name in names:
        made = [pair for pair in found if name in pair.with_them.tried]
        rows.append(
            [
                name,
                str(len(made)),
                number(fmean(pair.with_them.tried[name] for pair in made), 0),
                share(fmean(pair.without.rank == 1 for pair in made)),
                share(fmean(pair.with_them.rank == 1 for pair in made)),
                str(sum(pair.gain > 0 for pair in made)),
                str(sum(pair.gain < 0 for pair in made)),
            ]
        )
    head = ["made", "trainings", "steps", "top 1 without", "with", "put right", "put wrong"]
    return table(head, rows)


def _changed(found: Sequence[Pair]) -> list[str]:
    rows = [
        [
            pair.without.program,
            str(pair.without.seed),
            " or ".join(pair.without.expected),
            _said(pair.without),
            _said(pair.with_them),
            ", ".join(pair.with_them.tried) or "none",
        ]
        for pair in found
        if pair.gain
    ]
    head = ["program", "seed", "planted", "without", "with", "made"]
    return ["### Where they made the difference", table(head, rows)] if rows else []


def _said(one: Result) -> str:
    return ", ".join(f"{call.code} ({call.confidence:.2f})" for call in one.heads) or "nothing"
