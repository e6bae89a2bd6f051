"""Measure the diagnosis on every program of the zoo.

    python -m tests.faults.matrix --part validation --seeds 5

Prints for each part how often the right cause came first, how often a healthy training was called
sick, how long it took, and what was named for each fault. ``--write-docs`` writes the same to
``docs/explanation/accuracy.md``. Seeds can be measured one by one, and a job that was broken off be
taken up again:

    python -m tests.faults.matrix --seed 3 --json seed3.json --resume
    python -m tests.faults.matrix --read seed0.json seed1.json seed2.json --write-docs

``--experiments both`` watches every training a second time, without experiments, and compares.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, get_args

from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.occasions import When
from tests.faults.accuracy import COMMAND, PARTS, page
from tests.faults.program import Program, programs
from tests.faults.result import Result, train

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "accuracy.md"
Job = tuple[str, int, When]
"""A program by name, a seed, and whether experiments are allowed."""


def chosen(part: str, only: Sequence[str]) -> tuple[Program, ...]:
    """Return the programs of a part whose name holds one of ``only``, or whose code is one.

    Args:
        part: ``"tuned"``, ``"validation"`` or ``"all"``.
        only: Parts of names, expected codes, or ``"healthy"``; empty for every program.

    Raises:
        SystemExit: If no program is left.
    """
    found = tuple(
        one
        for one in programs()
        if part in ("all", one.part) and (not only or any(_meant(one, word) for word in only))
    )
    if not found:
        raise SystemExit(f"no program of part {part} is named like {' or '.join(only)}")
    return found


def _meant(one: Program, word: str) -> bool:
    codes = (*one.expected, *one.shows)
    return word in one.name or word in codes or (word == "healthy" and one.healthy)


def measure(jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Train each in processes of one thread; yield what comes first."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        for done in as_completed([pool.submit(_train, *job) for job in jobs]):
            yield done.result()


def _measured(asked: Any) -> list[Result]:
    """Train what was asked for; a line for each, and the file so far, as they end."""
    results = load(asked.json) if asked.resume and asked.json.exists() else []
    jobs = _jobs(asked, results)
    began, past = time.monotonic(), len(results)
    for one in measure(jobs, asked.workers):
        results.append(one)
        left_s = (
            (time.monotonic() - began) / (len(results) - past) * (past + len(jobs) - len(results))
        )
        place = f"{len(results)}/{past + len(jobs)}, {left_s / 60:.0f} min left"
        print(f"[{place}] {_line(one)}", file=sys.stderr, flush=True)
        if asked.json is not None:
            save(results, asked.json)  # a run that is broken off has not been in vain
    return results


def _jobs(asked: Any, done: Sequence[Result]) -> list[Job]:
    """Return what is to be trained, seed by seed, without what was done before."""
    made = {(one.program, one.seed, one.experiments) for one in done}
    ways = get_args(When) if asked.experiments == "both" else (asked.experiments,)
    names = [one.name for one in chosen(asked.part, asked.only)]
    seeds = asked.seed if asked.seed is not None else range(asked.seeds)
    jobs = [(name, seed, way) for seed in seeds for name in names for way in ways]
    return [job for job in jobs if job not in made]


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _train(name: str, seed: int, experiments: When) -> Result:
    return train(next(one for one in programs() if one.name == name), seed, experiments)


def _line(one: Result) -> str:
    said = ", ".join(f"{call.code}@{call.step}" for call in one.told) or "nothing"
    notes = [*one.failures, *([one.error] if one.error and one.healthy else [])]
    if one.learned is False:
        notes.append("it did not learn")
    if unseen := sorted(set(one.shows) - one.named):
        notes.append(f"not named: {', '.join(unseen)}")
    how = " without experiments" if one.experiments == "never" else ""
    run = f"{one.program}/{one.seed}{how} {one.elapsed_s:.1f} s"
    return f"{_verdict(one):<7}{run}: {said} {'; '.join(notes)}"


def _verdict(one: Result) -> str:
    if one.healthy:
        return "ALARM" if one.told else "ok"
    return {None: "MISSED", 1: "ok"}.get(one.rank, f"{one.rank}.")


def save(results: Sequence[Result], path: Path) -> None:
    """Write results as JSON; a file that is there stays whole until the new one is."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(to_plain(tuple(results)), indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def load(path: Path) -> list[Result]:
    """Read results that ``save`` wrote."""
    return [from_plain(Result, one) for one in json.loads(path.read_text(encoding="utf-8"))]


def merged(paths: Sequence[Path]) -> list[Result]:
    """Read results from several files; of the same training, the file named last counts."""
    found = [one for path in paths for one in load(path)]
    return list({(one.program, one.seed, one.experiments): one for one in found}.values())


def _arguments(argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Measure the diagnosis on every program of the zoo."
    )
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each program")
    parser.add_argument("--seed", type=int, nargs="+", help="these seeds in place of the first")
    parser.add_argument("--only", nargs="+", default=[], help="names, codes or 'healthy'")
    parser.add_argument(
        "--experiments", choices=(*get_args(When), "both"), default="when-stuck",
        help="whether the callback may make experiments; 'both' compares",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="file to write every result to")
    parser.add_argument(
        "--resume", action="store_true", help="leave out what is in the file already"
    )
    parser.add_argument(
        "--read", type=Path, nargs="+", default=[], help="files of results: train nothing"
    )
    parser.add_argument("--write-docs", action="store_true", help=f"write {PAGE.name}")
    asked = parser.parse_args(argv)
    if asked.resume and asked.json is None:
        parser.error("--resume needs the file to go on with: --json FILE")
    return asked


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print, and write what was asked for."""
    asked = _arguments(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results = merged(asked.read) if asked.read else _measured(asked)
    results.sort(key=lambda one: (one.expected, one.program, one.seed, one.experiments))
    if asked.json is not None:
        save(results, asked.json)
    for chapter in page(results).split("\n## ")[1:]:
        print(f"## {chapter}", end="\n\n")
    if asked.write_docs:
        seeds = len({one.seed for one in results})
        both = {one.experiments for one in results} == set(get_args(When))
        how = " --experiments both" if both else ""
        command = f"{COMMAND} --seeds {seeds}{how} --write-docs"
        PAGE.write_text(page(results, command), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
