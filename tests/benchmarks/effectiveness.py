"""What treatment achieves: sick trainings under every approach, and healthy ones under ours.

    python -m tests.benchmarks.effectiveness
    python -m tests.benchmarks.effectiveness --trainings 26 --jobs 2 --only "deep sigmoid"

A training is sick if it ends more than five points of accuracy below its healthy twin, and it is
repaired if the same training, treated, does not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from lightning_plateau.core.plain import from_plain, to_plain
from tests.benchmarks.approaches import APPROACHES, Approach, Ended
from tests.benchmarks.cases import Case, generated, of_the_zoo
from tests.benchmarks.effects import Effect, report
from tests.benchmarks.harm import Healthy, harm
from tests.benchmarks.overhead import machine, write
from tests.benchmarks.recipes import Recipe
from tests.faults.program import programs

MARGIN = 0.05
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "effectiveness.md"


def measure(case: Case, seed: int, approaches: Sequence[Approach]) -> list[Effect]:
    """Train a case under every approach; only untreated where it turns out not to be sick."""
    effects: list[Effect] = []
    target = case.floor if case.twin is None else _twin(case.twin, seed).accuracy - MARGIN
    for approach in approaches:
        began = time.perf_counter()
        ended = approach.train(case.sick, seed)
        elapsed = time.perf_counter() - began
        effects.append(
            Effect(
                case.name,
                case.fault,
                seed,
                approach.name,
                ended.accuracy,
                target,
                ended.steps,
                elapsed,
                ended.notes,
            )
        )
        if approach is APPROACHES[0] and effects[0].repaired:
            break
    return effects


@cache
def _twin(recipe: Recipe, seed: int) -> Ended:
    return APPROACHES[0].train(recipe.training, seed)


def _sick(trainings: int, index: int, seed: int, only: Sequence[str]) -> list[Effect]:
    cases = (*generated(trainings), *of_the_zoo())
    chosen = [a for a in APPROACHES if a is APPROACHES[0] or _meant(a.name, only)]
    return measure(cases[index], seed, chosen)


def _healthy(name: str, seed: int) -> list[Healthy]:
    return [harm(next(one for one in programs() if one.name == name), seed)]


def _meant(name: str, words: Sequence[str]) -> bool:
    return not words or any(word in name for word in words)


def _tasks(asked: Any) -> Iterator[Callable[[], list[Any]]]:
    cases = (*generated(asked.trainings), *of_the_zoo())
    for seed in range(asked.seeds):
        for index, case in enumerate(cases):
            if _meant(f"{case.fault} {case.name}", asked.only) and not asked.no_sick:
                yield partial(_sick, asked.trainings, index, seed, asked.approach)
        for one in programs():
            if one.healthy and _meant(f"healthy {one.name}", asked.only) and not asked.no_healthy:
                yield partial(_healthy, one.name, seed)


@dataclass(frozen=True)
class Results:
    """All that was measured."""

    sick: tuple[Effect, ...] = ()
    healthy: tuple[Healthy, ...] = ()


def _run(asked: Any) -> Results:
    """Train all that was asked for, in processes of one thread; say each as it ends."""
    context = multiprocessing.get_context("spawn")
    found: list[Any] = []
    with ProcessPoolExecutor(asked.jobs, context, initializer=_one_thread) as pool:
        waiting: list[Future[list[Any]]] = [pool.submit(task) for task in _tasks(asked)]
        for done in as_completed(waiting):
            found += done.result()
            for one in done.result():
                print(one.line, file=sys.stderr, flush=True)
            if asked.json is not None:
                _save(_sorted(found), asked.json)
    return _sorted(found)


def _sorted(found: Sequence[Any]) -> Results:
    # What was measured twice counts once, as it was last.
    sick = {(o.case, o.seed, o.approach): o for o in found if type(o) is Effect}.values()
    healthy = {(o.program, o.seed): o for o in found if type(o) is Healthy}.values()
    return Results(
        tuple(sorted(sick, key=lambda one: (one.case, one.seed))),
        tuple(sorted(healthy, key=lambda one: (one.program, one.seed))),
    )


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _save(results: Results, path: Path) -> None:
    path.write_text(json.dumps(to_plain(results)) + "\n", encoding="utf-8")


def _load(paths: Sequence[Path]) -> Results:
    read = [from_plain(Results, json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    return _sorted([one for part in read for one in (*part.sick, *part.healthy)])


def _arguments(argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trainings", type=int, default=104, help="generated sick trainings")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each training")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", default=[], help="parts of names, or 'healthy'")
    parser.add_argument("--approach", nargs="+", default=[], help="parts of names")
    parser.add_argument("--no-healthy", action="store_true")
    parser.add_argument("--no-sick", action="store_true")
    parser.add_argument("--json", type=Path, help="file to write every result to")
    parser.add_argument("--read", type=Path, nargs="+", default=[], help="train nothing")
    parser.add_argument("--write-docs", action="store_true", help=f"write {PAGE.name}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    asked = _arguments(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results = _load(asked.read) if asked.read else _run(asked)
    names = [approach.name for approach in APPROACHES]
    text = report(results.sick, results.healthy, names, machine())
    print(text)
    if asked.write_docs:
        write(text, PAGE)


if __name__ == "__main__":
    main()
