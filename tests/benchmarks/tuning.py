"""Time and steps until a search reaches a fixed score: our pruner, none, the median, Hyperband.

    python -m tests.benchmarks.tuning --json found.jsonl            goes on where it was
    python -m tests.benchmarks.tuning --seeds 3 --only text --approach none plateau
    python -m tests.benchmarks.tuning --read found.jsonl --write-docs

Every approach is given the same random trials in the same order, over a wide space; they differ
only in which of them they end early. Time is that of the processor. A trial of an approach that
does not watch the training is trained once, and played to the others of that kind.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.tuning.deaths import reason_of
from lightning_plateau.tuning.pruner import PlateauPruner, make_pruner
from lightning_plateau.tuning.space import Space
from lightning_plateau.tuning.training import Trials
from lightning_plateau.tuning.worker import Plan, Run, Worker
from tests.benchmarks.overhead import machine, write
from tests.benchmarks.tuning_curves import CPU_S, STEPS, Played
from tests.benchmarks.tuning_tasks import SPACE, TASKS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "tuning.md"
APPROACHES = ("none", "median", "hyperband", "plateau", "plateau+median", "plateau+hyperband")
MOST_TRIALS = 30


@dataclass(frozen=True)
class Search:
    """One search until the target, or until it has made all its trials."""

    task: str
    seed: int
    approach: str
    reached: bool
    trials: int
    ended_early: int
    steps: int
    cpu_s: float
    elapsed_s: float
    best: float
    reasons: tuple[str, ...]


def search(
    task: str, seed: int, approach: str, played: Played | None = None, most: int = MOST_TRIALS
) -> Search:
    """Search with random trials until one reaches the target."""
    blueprint = TASKS[task].blueprint()
    pruner = make_pruner(approach)
    watched = isinstance(pruner, PlateauPruner)
    run = Trials(blueprint, "val_loss").run if watched else (played or Played(blueprint)).run
    plan = Plan(f"{task}-{seed}", "random", most, widen=False, seed=seed)
    worker = Worker(plan, SPACE, InMemoryStorage(), pruner)
    began_s, reached = time.monotonic(), False
    for trial in worker.work(_timed(run) if watched else run):
        if trial.state is TrialState.COMPLETE and (trial.value or 0.0) <= TASKS[task].target:
            reached = True
            break
    return _search_of(task, seed, approach, worker.study.trials, reached, began_s)


def _timed(run: Run) -> Run:
    def timed(trial: Trial, space: Space) -> float:
        began_s = time.process_time()
        try:
            return run(trial, space)
        finally:
            trial.set_user_attr(CPU_S, time.process_time() - began_s)

    return timed


def _search_of(
    task: str,
    seed: int,
    approach: str,
    trials: Sequence[FrozenTrial],
    reached: bool,
    began_s: float,
) -> Search:
    scores = [one.value for one in trials if one.state is TrialState.COMPLETE]
    return Search(
        task,
        seed,
        approach,
        reached,
        len(trials),
        sum(one.state is TrialState.PRUNED for one in trials),
        sum(one.user_attrs.get(STEPS, 0) for one in trials),
        sum(one.user_attrs[CPU_S] for one in trials),
        time.monotonic() - began_s,
        min((one for one in scores if one is not None), default=math.inf),
        tuple(reason_of(one) for one in trials),
    )


def report(found: Sequence[Search]) -> str:
    """Return the tables: every approach over all tasks, and on each; and why trials died."""
    tasks, searches = {one.task for one in found}, {(one.task, one.seed) for one in found}
    text = (
        f"{len(tasks)} tasks, {len(searches)} searches under each pruner, at most {MOST_TRIALS} "
        f"trials a search; {machine()}. Time is that of the processor, steps are those of the "
        "optimizers, "
        "for a search until its first trial that reaches the score. The ratios are those to the "
        "same search without a pruner: of the sums over all searches, and in brackets the median "
        "over the searches."
    )
    blocks = [text, _table(found)]
    for task, its in TASKS.items():
        of_task = [one for one in found if one.task == task]
        if of_task:
            blocks += [f"### {task}: validation loss {its.target:g}", _table(of_task)]
    return "\n\n".join([*blocks, "### Why `plateau` ended trials", _reasons(found)])


def _table(found: Sequence[Search]) -> str:
    rows = [
        (
            "| Pruner | Reached | Trials | Ended early | Steps | Time in s | Steps, ratio "
            "| Time, ratio |"
        ),
        "|---" * 8 + "|",
    ]
    names = [name for name in APPROACHES if any(one.approach == name for one in found)]
    bare = {(one.task, one.seed): one for one in found if one.approach == "none"}
    for name in names:
        own = [one for one in found if one.approach == name]
        pairs = [(one, bare[one.task, one.seed]) for one in own if (one.task, one.seed) in bare]
        ended = sum(one.ended_early for one in own) / max(1, sum(one.trials for one in own))
        cells = (
            name,
            f"{sum(one.reached for one in own)} of {len(own)}",
            f"{statistics.mean(one.trials for one in own):.1f}",
            f"{100 * ended:.0f} %",
            f"{statistics.mean(one.steps for one in own):.0f}",
            f"{statistics.mean(one.cpu_s for one in own):.2f}",
            _ratio([(one.steps, base.steps) for one, base in pairs]),
            _ratio([(one.cpu_s, base.cpu_s) for one, base in pairs]),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _ratio(pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return "–"
    whole = sum(one for one, _ in pairs) / sum(base for _, base in pairs)
    return f"{whole:.2f} ({statistics.median(one / base for one, base in pairs):.2f})"


def _reasons(found: Sequence[Search]) -> str:
    died = Counter(
        reason for one in found if one.approach == "plateau" for reason in one.reasons if reason
    )
    rows = [f"| {reason} | {many} |" for reason, many in died.most_common()]
    return "\n".join(["| Reason | Trials |", "|---|---|", *rows])


def main(argv: Sequence[str] | None = None) -> int:
    """Search under every approach, and print or write the tables."""
    asked = _arguments(argv)
    torch.set_num_threads(1)
    found = _read([asked.json] if asked.read is None and asked.json else asked.read or [])
    if asked.read is None:
        search("diabetes", 999, "plateau", most=2)  # what is imported and cached only once
        done = {(one.task, one.seed, one.approach) for one in found}
        for seed in range(asked.first, asked.first + asked.seeds):
            for task in asked.only:
                played = Played(TASKS[task].blueprint())
                for approach in asked.approach:
                    if (task, seed, approach) not in done:
                        found.append(search(task, seed, approach, played))
                        _keep(found[-1], asked.json)
    text = report(_whole(found))
    print(text)
    if asked.write_docs:
        write(text, PAGE)
    return 0


def _whole(found: Sequence[Search]) -> list[Search]:
    """Return the searches that were made under every approach: others cannot be compared."""
    made = Counter((one.task, one.seed) for one in found)
    approaches = len({one.approach for one in found})
    return [one for one in found if made[one.task, one.seed] == approaches]


def _read(paths: Sequence[Path]) -> list[Search]:
    kept = [path.read_text("utf-8").splitlines() for path in paths if path.exists()]
    return [from_plain(Search, json.loads(line)) for lines in kept for line in lines]


def _keep(one: Search, path: Path | None) -> None:
    print(one, file=sys.stderr, flush=True)
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_plain(one)) + "\n")


def _arguments(argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="+", choices=tuple(TASKS), default=tuple(TASKS))
    parser.add_argument("--approach", nargs="+", choices=APPROACHES, default=APPROACHES)
    parser.add_argument("--json", type=Path, help="keep the results, a line each, and go on there")
    parser.add_argument(
        "--read", type=Path, nargs="+", help="results that were kept, in place of searches"
    )
    parser.add_argument("--write-docs", action="store_true", help=f"write {PAGE.name}")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
