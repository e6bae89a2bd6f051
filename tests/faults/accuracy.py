"""The numbers of the zoo in words: one text for the terminal and for the documentation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lightning_plateau.diagnosis import all_rules
from tests.faults.result import Result
from tests.faults.scores import SHOWN, Score, baselines, calibration, confusion, score

PARTS = {
    "tuned": "The part that thresholds may be chosen by",
    "validation": "The part that no threshold was chosen by",
}
COMMAND = "python -m tests.faults.matrix"

_INTRODUCTION = """
# How right the diagnosis is

The folder `tests/faults` holds real programs: a module, loaders and Trainer settings each, as a
user would write them, on real data. In some a fault is planted, in others nothing is wrong. Each is
trained from {seeds}, watched by `PlateauCallback` as it comes, and what it says is held against the
truth. A third of the programs is kept aside: no threshold was chosen by them. They were written by
those who wrote the rules, though, and looked at now and then: expect less of a program that nobody
here has seen.

This page is generated: `{command}`.

- **Top 1** and **top 3**: share of the faulty trainings in which a right cause came first, and
  among the three shown.
- **Precision**: share of the causes shown, in faulty and healthy trainings, that are true.
- **False alarms**: causes shown for a healthy training; *at any time* counts also those that were
  withdrawn before its end.
- **Steps to detection**: optimizer steps made when the right cause was named first. The callback
  looks every 50 steps, and what is certain it says at the first.
""".strip()


def page(results: Sequence[Result], command: str = COMMAND) -> str:
    """Return the page of the documentation."""
    seeds = len({one.seed for one in results})
    opening = _INTRODUCTION.format(
        seeds="one seed" if seeds == 1 else f"{seeds} seeds", command=command
    )
    return "\n\n".join([opening, *_parts(results)]) + "\n"


def _parts(results: Sequence[Result]) -> list[str]:
    present = [part for part in PARTS if any(one.part == part for one in results)]
    return [text(part, results) for part in present]


def text(part: str, results: Sequence[Result]) -> str:
    """Return the chapter about one part in Markdown."""
    chosen = [one for one in results if one.part == part]
    blocks = [
        f"## {PARTS[part]}",
        _summary(chosen),
        _guessing(chosen, [one for one in results if one.part == "tuned"]),
        "### How sure, and how right",
        _calibration(chosen),
        "### What was named for each fault",
        _confusion(chosen),
        *_missed(chosen),
    ]
    return "\n\n".join(blocks)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers included as they are.

    Example:
        >>> print(table(["fault", "runs"], [["LP701", "4"]]))
        | fault | runs |
        | --- | --- |
        | LP701 | 4 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(value: float) -> str:
    """Return a share in per cent; a dash where it is unknown.

    Example:
        >>> share(0.9876), share(float("nan"))
        ('98.8 %', '–')
    """
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _number(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _summary(chosen: Sequence[Result]) -> str:
    total = score(chosen)
    programs = {healthy: _programs(chosen, healthy) for healthy in (True, False)}
    return table(
        ["measure", "value"],
        [
            ["faulty trainings", f"{total.faulty} of {programs[False]} programs"],
            ["healthy trainings", f"{total.healthy} of {programs[True]} programs"],
            ["top 1", share(total.top_1)],
            ["top 3", share(total.top_3)],
            ["precision", share(total.precision)],
            *_alarms(total),
            ["steps to detection, median", _number(total.median_steps, 0)],
            ["steps to detection, nine of ten", _number(total.slow_steps, 0)],
            ["Brier score of the confidence", _number(total.brier, 3)],
        ],
    )


def _alarms(total: Score) -> list[list[str]]:
    return [
        ["false alarms a healthy training, at its end", _number(total.standing_alarms, 3)],
        ["false alarms a healthy training, at any time", _number(total.alarms, 3)],
        ["healthy trainings with one at any time", share(total.alarmed)],
        ["false alarms in 10,000 steps, at any time", _number(total.alarms_per_10_000_steps)],
    ]


def _programs(chosen: Sequence[Result], healthy: bool) -> int:
    return len({one.program for one in chosen if one.healthy is healthy})


def _guessing(chosen: Sequence[Result], tuned: Sequence[Result]) -> str:
    codes = [rule.code for rule in all_rules()]
    rows = [
        [one.name, share(one.top_1), share(one.top_3)]
        for one in baselines(chosen, codes, tuned or chosen)
    ]
    return table(["without looking", "top 1", "top 3"], rows)


def _calibration(chosen: Sequence[Result]) -> str:
    rows = [
        [
            "certain" if one.low == 1.0 else f"from {one.low:.1f}",
            str(one.number),
            share(one.claimed),
            share(one.true),
        ]
        for one in calibration(chosen)
    ]
    return table(["confidence", "causes shown", "claimed", "true"], rows)


def _confusion(chosen: Sequence[Result]) -> str:
    names = {rule.code: rule.name for rule in all_rules()}
    rows = [
        [
            f"{row.fault} {names.get(row.fault, '')}".strip() or "healthy",
            str(row.runs),
            share(row.top_1),
            share(row.top_3),
            ", ".join(f"{code} {number}×" for code, number in row.named) or "nothing",
        ]
        for row in confusion(chosen)
    ]
    return table(["planted", "trainings", "top 1", f"top {SHOWN}", "shown"], rows)


def _missed(chosen: Sequence[Result]) -> list[str]:
    """Return the trainings in which something else than the truth was said, one a row."""
    rows = [
        [
            one.program,
            str(one.seed),
            " or ".join(one.expected) or "healthy",
            ", ".join(f"{call.code} ({call.confidence:.2f})" for call in one.heads) or "nothing",
            ", ".join(call.code for call in one.told if call.code not in _codes(one)) or "–",
        ]
        for one in chosen
        if (one.told if one.healthy else one.rank != 1)
    ]
    if not rows:
        return []
    head = ["program", "seed", "planted", "shown", "withdrawn"]
    return ["### Where it was wrong", table(head, rows)]


def _codes(one: Result) -> set[str]:
    return {call.code for call in one.heads}
