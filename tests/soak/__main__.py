"""Inject so many faults into so many trainings, and count what held.

python -m tests.soak --faults 200 --seed 0
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from tests.digits import digits
from tests.soak.injection import KINDS, Injection, plan
from tests.soak.process import forked
from tests.soak.scene import bare, play
from tests.soak.training import MODULES
from tests.soak.verdict import State, problems


def main(argv: Sequence[str] | None = None) -> int:
    """Run the soak; return 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--only", nargs="+", default=[], help="kinds whose name holds one of these")
    parser.add_argument("--number", type=int, help="this one of the plan alone")
    parser.add_argument("--keep", type=Path, help="keep what each training leaves in this folder")
    asked = parser.parse_args(argv)
    kinds = tuple(k for k in KINDS if not asked.only or any(part in k for part in asked.only))
    injections = plan(asked.faults, asked.seed, kinds)
    if asked.number is not None:
        injections = [injections[asked.number]]
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        results = soak(injections, asked.keep or Path(folder), asked.jobs)
    print(table(results))
    print(f"{len(results)} faults in {time.monotonic() - began_s:.0f} s")
    return int(any(result["problems"] for result in results))


def soak(injections: Sequence[Injection], folder: Path, jobs: int = 2) -> list[dict[str, object]]:
    """Play every injection, ``jobs`` at a time, and return what came of each."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    digits()
    baselines = unwatched(injections, folder)
    workers = [
        os.fork() or _work(injections[place::jobs], folder, baselines, folder / f"results{place}")
        for place in range(jobs)
    ]
    for worker in workers:
        os.waitpid(worker, 0)
    written = [path.read_text() for path in sorted(folder.glob("results*"))]
    results = [json.loads(line) for text in written for line in text.splitlines()]
    return sorted(results, key=lambda result: result["number"])


def unwatched(injections: Sequence[Injection], folder: Path) -> dict[tuple[str, int], State]:
    """Return how each training ends without the library."""
    ends = {}
    for name in MODULES:
        for ranks in {1 + injection.distributed for injection in injections}:
            home = folder / f"bare-{name}-{ranks}"
            home.mkdir(parents=True)
            forked(bare(name, home, ranks), home)
            ends[name, ranks] = torch.load(home / "rank0.pt")["state"]
    return ends


def _work(
    injections: Sequence[Injection],
    folder: Path,
    baselines: dict[tuple[str, int], State],
    results: Path,
) -> int:
    for injection in injections:
        home = folder / str(injection.number)
        home.mkdir()
        endings = play(injection, home)
        state = baselines[injection.module, 1 + injection.distributed]
        wrong = problems(injection, home, endings, state)
        fired = (home / "fired").exists() or "from outside" in injection.kind
        with results.open("a") as file:
            line = {
                "number": injection.number,
                "kind": injection.kind,
                "what": str(injection),
                "fired": fired,
                "resumed": endings.resumed is not None,
                "took_s": sum(ending.took_s for ending in endings.all),
                "problems": wrong,
            }
            file.write(json.dumps(line) + "\n")
        print(f"{'WRONG' if wrong else 'ok   '} {injection}: {'; '.join(wrong)}", flush=True)
        if not wrong:
            shutil.rmtree(home)
    os._exit(0)


def table(results: Sequence[dict[str, object]]) -> str:
    """Return the counts by kind."""
    lines = [f"{'kind':24} injected  happened  resumed  wrong"]
    counts = {key: Counter(str(r["kind"]) for r in results if r[key]) for key in
              ("kind", "fired", "resumed", "problems")}  # fmt: skip
    for kind in sorted(counts["kind"], key=KINDS.index):
        numbers = [counts[key][kind] for key in ("kind", "fired", "resumed", "problems")]
        lines.append(f"{kind:24} {numbers[0]:8} {numbers[1]:9} {numbers[2]:8} {numbers[3]:6}")
    sums = [counts[key].total() for key in ("kind", "fired", "resumed", "problems")]
    lines.append(f"{'all':24} {sums[0]:8} {sums[1]:9} {sums[2]:8} {sums[3]:6}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
