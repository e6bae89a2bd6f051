"""Measure the diagnosis on every program of the zoo.

    python -m tests.faults.matrix --part validation --seeds 5

Prints for each part how often the right cause came first, how often a healthy training was called
sick, how long it took, and what was named for each fault. ``--write-docs`` writes the same to
``docs/explanation/accuracy.md``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from lightning_plateau.core.plain import from_plain, to_plain
from tests.faults.accuracy import COMMAND, PARTS, page, text
from tests.faults.program import Program, programs
from tests.faults.result import Result, train

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "accuracy.md"


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
    return word in one.name or word in one.expected or (word == "healthy" and one.healthy)


def measure(names: Sequence[str], seeds: int, workers: int) -> Iterator[Result]:
    """Train each program from each seed in processes of one thread; yield what comes first."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        waiting = [pool.submit(_train, name, seed) for seed in range(seeds) for name in names]
        for done in as_completed(waiting):
            yield done.result()


def _measured(asked: Any) -> list[Result]:
    """Train what was asked for; a line for each, and the file so far, as they end."""
    names = [one.name for one in chosen(asked.part, asked.only)]
    results = []
    for one in measure(names, asked.seeds, asked.workers):
        print(_line(one), file=sys.stderr, flush=True)
        results.append(one)
        if asked.json is not None:
            save(results, asked.json)  # a run that is broken off has not been in vain
    return results


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _train(name: str, seed: int) -> Result:
    return train(next(one for one in programs() if one.name == name), seed)


def _line(one: Result) -> str:
    verdict = _verdict(one)
    said = ", ".join(f"{call.code}@{call.step}" for call in one.told) or "nothing"
    notes = [*one.failures, *([one.error] if one.error and one.healthy else [])]
    if one.learned is False:
        notes.append("it did not learn")
    return f"{verdict:<8}{one.program}/{one.seed} {one.elapsed_s:.1f} s: {said} {'; '.join(notes)}"


def _verdict(one: Result) -> str:
    if one.healthy:
        return "ALARM" if one.told else "ok"
    return {None: "MISSED", 1: "ok"}.get(one.rank, f"{one.rank}.")


def save(results: Sequence[Result], path: Path) -> None:
    """Write results as JSON."""
    path.write_text(json.dumps(to_plain(tuple(results)), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> list[Result]:
    """Read results that ``save`` wrote."""
    return [from_plain(Result, one) for one in json.loads(path.read_text(encoding="utf-8"))]


def _arguments(argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Measure the diagnosis on every program of the zoo."
    )
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each program")
    parser.add_argument("--only", nargs="+", default=[], help="names, codes or 'healthy'")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="file to write every result to")
    parser.add_argument(
        "--read", type=Path, nargs="+", default=[], help="files of results: train nothing"
    )
    parser.add_argument("--write-docs", action="store_true", help=f"write {PAGE.name}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print, and write what was asked for."""
    asked = _arguments(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results = [one for path in asked.read for one in load(path)] or _measured(asked)
    results.sort(key=lambda one: (one.expected, one.program, one.seed))
    if asked.json is not None:
        save(results, asked.json)
    for part in PARTS:
        if any(one.part == part for one in results):
            print(text(part, results), end="\n\n")
    if asked.write_docs:
        seeds = len({one.seed for one in results})
        PAGE.write_text(page(results, f"{COMMAND} --seeds {seeds} --write-docs"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
