"""How good the diagnosis is: pure functions from results to numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from tests.faults.result import Call, Result

SHOWN = 3
"""Causes that a report shows."""
BINS = (0.0, 0.6, 0.8, 0.9, 1.0)
"""Lower ends of the bins of confidence; what is certain has a bin of its own."""


@dataclass(frozen=True)
class Score:
    """What a part of the zoo adds up to. Shares are NaN where there is nothing to divide by.

    Attributes:
        faulty: Trainings with a fault.
        healthy: Trainings without.
        top_1: Share of the faulty in which an expected code came first.
        top_3: Share of the faulty in which one was among the first three.
        precision: Share of the faults shown, in all trainings, that are true.
        standing_alarms: Faults that stood at the end of a healthy training, for each of them.
        alarms: The same, of faults named at any time.
        alarmed: Share of the healthy in which a fault was named at any time.
        alarms_per_10_000_steps: Faults named in healthy trainings for 10,000 of their steps.
        median_steps: Median over the faulty of the steps made when the fault was named.
        slow_steps: The 90th percentile of them.
        brier: Mean squared distance between confidence and truth of the faults shown.
    """

    faulty: int
    healthy: int
    top_1: float
    top_3: float
    precision: float
    standing_alarms: float
    alarms: float
    alarmed: float
    alarms_per_10_000_steps: float
    median_steps: float
    slow_steps: float
    brier: float


def score(results: Iterable[Result]) -> Score:
    """Return what ``results`` add up to."""
    results = list(results)
    faulty = [one for one in results if not one.healthy]
    healthy = [one for one in results if one.healthy]
    claims = claimed(results)
    waits = sorted(step for one in faulty if (step := one.detected_at) is not None)
    return Score(
        faulty=len(faulty),
        healthy=len(healthy),
        top_1=_mean(one.rank == 1 for one in faulty),
        top_3=_mean(one.rank is not None and one.rank <= SHOWN for one in faulty),
        precision=_mean(true for _, true in claims),
        standing_alarms=_mean(len(one.heads) for one in healthy),
        alarms=_mean(len(one.told) for one in healthy),
        alarmed=_mean(bool(one.told) for one in healthy),
        alarms_per_10_000_steps=_rate(healthy),
        median_steps=median(waits) if waits else math.nan,
        slow_steps=waits[math.ceil(0.9 * len(waits)) - 1] if waits else math.nan,
        brier=_mean((call.confidence - true) ** 2 for call, true in claims),
    )


def claimed(results: Iterable[Result]) -> list[tuple[Call, bool]]:
    """Return every fault that a report shows, each with whether it is true."""
    return [(call, one.right(call)) for one in results for call in one.heads[:SHOWN]]


def interval(share: float, number: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of a share that ``number`` independent cases gave.

    Trainings of one program from several seeds are alike: count programs, not trainings.

    Example:
        >>> low, high = interval(1.0, 35)
        >>> round(low, 2), high
        (0.9, 1.0)
    """
    if number == 0 or math.isnan(share):
        return math.nan, math.nan
    z = 1.96
    middle = (share + z * z / (2 * number)) / (1 + z * z / number)
    spread = math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    half = z * spread / (1 + z * z / number)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Sign:
    """How often what a fault does was named, under its cause or beside it.

    Attributes:
        code: The symptom or remark.
        runs: Trainings that show it.
        named: Share of them in which it was named.
    """

    code: str
    runs: int
    named: float


def signs(results: Iterable[Result]) -> tuple[Sign, ...]:
    """Return for each symptom and remark how often it was named where it is to be seen."""
    results = list(results)
    found = []
    for code in sorted({code for one in results for code in one.shows}):
        runs = [one for one in results if code in one.shows]
        found.append(Sign(code, len(runs), _mean(code in one.named for one in runs)))
    return tuple(found)


@dataclass(frozen=True)
class Bin:
    """Faults shown with a confidence of at least ``low``, below the next bin's.

    Attributes:
        low: Least confidence; 1.0 for what is certain.
        number: How many there are.
        claimed: Their mean confidence.
        true: The share of them that is true.
    """

    low: float
    number: int
    claimed: float
    true: float


def calibration(results: Iterable[Result]) -> tuple[Bin, ...]:
    """Return how often a fault was true that was claimed with a confidence."""
    claims = claimed(results)
    bins = []
    for low, high in zip(BINS, (*BINS[1:], math.inf), strict=True):
        inside = [(call, true) for call, true in claims if low <= call.confidence < high]
        bins.append(
            Bin(
                low,
                len(inside),
                _mean(call.confidence for call, _ in inside),
                _mean(true for _, true in inside),
            )
        )
    return tuple(bins)


@dataclass(frozen=True)
class Row:
    """What was named where one fault was planted.

    Attributes:
        fault: The code that was expected; ``""`` for healthy trainings.
        runs: Trainings.
        top_1: Share in which it came first; NaN for healthy trainings.
        top_3: Share in which it was among the first three.
        named: By code, in how many trainings it was shown; the most frequent first.
    """

    fault: str
    runs: int
    top_1: float
    top_3: float
    named: tuple[tuple[str, int], ...]


def confusion(results: Iterable[Result]) -> tuple[Row, ...]:
    """Return the table fault × rule, a row for each fault and one for the healthy at the end."""
    results = list(results)
    faults = sorted({one.expected[0] for one in results if one.expected})
    rows = []
    for fault in [*faults, ""]:
        runs = [one for one in results if (*one.expected, "")[0] == fault]
        named = Counter(call.code for one in runs for call in one.heads[:SHOWN])
        if runs:
            part = score(runs)
            ranked = sorted(named.items(), key=lambda item: (-item[1], item[0]))
            rows.append(Row(fault, len(runs), part.top_1, part.top_3, tuple(ranked)))
    return tuple(rows)


@dataclass(frozen=True)
class Baseline:
    """What a way to answer without looking reaches, as shares of the faulty trainings."""

    name: str
    top_1: float
    top_3: float


def baselines(
    results: Iterable[Result], codes: Sequence[str], learned_from: Iterable[Result]
) -> tuple[Baseline, ...]:
    """Return what guessing reaches.

    Args:
        results: What is scored.
        codes: Every code that a diagnosis can name.
        learned_from: The results that tell which fault is the most frequent.
    """
    faulty = [one for one in results if not one.healthy]
    known = set(codes)
    chances = [(len(known.intersection(one.expected)), len(codes)) for one in faulty]
    frequent = Counter(one.expected[0] for one in learned_from if not one.healthy)
    first = [code for code, _ in sorted(frequent.items(), key=lambda item: (-item[1], item[0]))]
    return (
        Baseline(
            "random guessing",
            _mean(_hit(right, total, 1) for right, total in chances),
            _mean(_hit(right, total, SHOWN) for right, total in chances),
        ),
        Baseline(
            f"always the most frequent ({', '.join(first[:SHOWN])})",
            _mean(bool(set(first[:1]).intersection(one.expected)) for one in faulty),
            _mean(bool(set(first[:SHOWN]).intersection(one.expected)) for one in faulty),
        ),
    )


def _hit(right: int, total: int, drawn: int) -> float:
    """Return the probability that one of ``right`` codes is among ``drawn`` of ``total``."""
    if total < drawn:
        return float(right > 0)
    return 1.0 - math.comb(total - right, drawn) / math.comb(total, drawn)


def _rate(healthy: Sequence[Result]) -> float:
    steps = sum(one.steps for one in healthy)
    return 1e4 * sum(len(one.told) for one in healthy) / steps if steps else math.nan


def _mean(values: Iterable[float]) -> float:
    listed = [float(value) for value in values]
    return fmean(listed) if listed else math.nan
