"""Time and trials until a search reaches a fixed score: our pruner, none, the median, Hyperband.

    python -m tests.benchmarks.tuning
    python -m tests.benchmarks.tuning --seeds 3 --only wine --approach none plateau
    python -m tests.benchmarks.tuning --write-docs

Every approach is given the same random trials in the same order, over the ready space `optimizer`;
they differ only in which of them they end early. Time is that of the processor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.framework import LightningDataModule, LightningModule
from lightning_plateau.tuning.blueprint import Blueprint
from lightning_plateau.tuning.deaths import reason_of
from lightning_plateau.tuning.pruner import PlateauPruner, make_pruner
from lightning_plateau.tuning.spaces import optimizer
from lightning_plateau.tuning.training import Trials
from lightning_plateau.tuning.worker import Plan, Worker
from tests.benchmarks.overhead import machine, write

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "tuning.md"
APPROACHES = ("none", "median", "hyperband", "plateau", "plateau+median")
MOST_TRIALS = 30


class Task(LightningModule):
    """A perceptron, as a user writes it, with a learning rate to be found."""

    def __init__(self, inputs: int, outputs: int, width: int = 64) -> None:
        super().__init__()
        self.outputs = outputs
        self.net = nn.Sequential(
            nn.Linear(inputs, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, outputs),
        )

    def loss(self, batch: Any) -> Tensor:
        """Return cross entropy for classes, the squared error for a number."""
        samples, targets = batch
        found = self.net(samples)
        return (
            F.mse_loss(found[:, 0], targets)
            if self.outputs == 1
            else F.cross_entropy(found, targets)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss."""
        self.log("val_loss", self.loss(batch))


@cache
def standardized(name: str) -> tuple[Tensor, Tensor]:
    """Return the samples of a data set, standardized, and the targets."""
    loaders: dict[str, Callable[[], Any]] = {
        "digits": load_digits,
        "breast cancer": load_breast_cancer,
        "diabetes": load_diabetes,
    }
    found = loaders[name]()
    samples = torch.tensor(found.data, dtype=torch.float32)
    samples = (samples - samples.mean(0)) / (samples.std(0) + 1e-6)
    targets = torch.tensor(found.target)
    if name == "diabetes":
        targets = ((targets - targets.mean()) / targets.std()).float()
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    return samples[order], targets[order]


class Data(LightningDataModule):
    """The samples of a data set, a quarter of them for validation."""

    def __init__(self, name: str, batch_size: int = 32) -> None:
        super().__init__()
        self.name, self.batch_size = name, batch_size

    def _loader(self, part: slice, *, shuffle: bool) -> Any:
        samples, targets = standardized(self.name)
        set_ = TensorDataset(samples[part], targets[part])
        return DataLoader(set_, self.batch_size if shuffle else 512, shuffle=shuffle)

    def train_dataloader(self) -> Any:
        """Return three quarters of the samples."""
        return self._loader(slice(len(standardized(self.name)[0]) // 4, None), shuffle=True)

    def val_dataloader(self) -> Any:
        """Return a quarter of them."""
        return self._loader(slice(0, len(standardized(self.name)[0]) // 4), shuffle=False)


@dataclass(frozen=True)
class Problem:
    """A task and the validation loss that the search is to reach.

    Attributes:
        target: A loss that about one random trial in six reaches, by 24 trials of another seed.
        epochs: Epochs of a trial.
    """

    inputs: int
    outputs: int
    target: float
    epochs: int


PROBLEMS: Mapping[str, Problem] = {
    "digits": Problem(64, 10, 0.27, 8),
    "breast cancer": Problem(30, 2, 0.125, 20),
    "diabetes": Problem(10, 1, 0.511, 20),
}


@dataclass(frozen=True)
class Search:
    """One search until the target, or until it has made all its trials."""

    task: str
    seed: int
    approach: str
    reached: bool
    trials: int
    ended_early: int
    cpu_s: float
    best: float
    reasons: tuple[str, ...]


def search(task: str, seed: int, approach: str, most: int = MOST_TRIALS) -> Search:
    """Search with random trials until one reaches the target."""
    problem = PROBLEMS[task]
    blueprint = Blueprint(
        Task,
        Data,
        trainer={"max_epochs": problem.epochs, "accelerator": "cpu", "devices": 1},
        fixed={"model.inputs": problem.inputs, "model.outputs": problem.outputs, "data.name": task},
    )
    pruner = make_pruner(approach)
    run = Trials(blueprint, "val_loss", isinstance(pruner, PlateauPruner)).run
    plan = Plan(f"{task}-{seed}", "random", most, widen=False, seed=seed)
    worker = Worker(plan, blueprint.fitted(optimizer), InMemoryStorage(), pruner)
    began_s = time.process_time()
    reached = False
    for trial in worker.work(run):
        if trial.state is TrialState.COMPLETE and (trial.value or 0.0) <= problem.target:
            reached = True
            break
    cpu_s = time.process_time() - began_s
    trials = worker.study.trials
    return Search(
        task,
        seed,
        approach,
        reached,
        len(trials),
        sum(one.state is TrialState.PRUNED for one in trials),
        cpu_s,
        min((one.value for one in trials if one.state is TrialState.COMPLETE), default=np.inf),
        tuple(reason_of(one) for one in trials),
    )


def report(found: Sequence[Search]) -> str:
    """Return the tables: every approach over all tasks, and on each."""
    names = [name for name in APPROACHES if any(one.approach == name for one in found)]
    seeds = len({one.seed for one in found})
    text = (
        f"{len(PROBLEMS)} tasks, {seeds} seeds, at most {MOST_TRIALS} trials a search; "
        f"{machine()}. "
        "Time is that of the processor, for a search until its first trial that reaches the score. "
        "The ratio is that of the same search without a pruner, and the median over the searches; "
        "searches that either of the two did not bring to the score are left out of it."
    )
    blocks = [text, _table(names, found)]
    for task in PROBLEMS:
        of_task = [one for one in found if one.task == task]
        if of_task:
            target = PROBLEMS[task].target
            blocks += [f"### {task}: validation loss {target:g}", _table(names, of_task)]
    return "\n\n".join(blocks)


def _table(names: Sequence[str], found: Sequence[Search]) -> str:
    rows = ["| Pruner | Reached | Trials | Ended early | Time in s | Ratio |", "|---" * 6 + "|"]
    bare = {(one.task, one.seed): one for one in found if one.approach == "none"}
    for name in names:
        own = [one for one in found if one.approach == name]
        pairs = [
            (one, bare[one.task, one.seed])
            for one in own
            if one.reached and (one.task, one.seed) in bare and bare[one.task, one.seed].reached
        ]
        ratio = statistics.median(one.cpu_s / base.cpu_s for one, base in pairs) if pairs else 0.0
        ended = sum(one.ended_early for one in own) / max(1, sum(one.trials for one in own))
        cells = (
            name,
            f"{sum(one.reached for one in own)} of {len(own)}",
            f"{statistics.mean(one.trials for one in own):.1f}",
            f"{100 * ended:.0f} %",
            f"{statistics.mean(one.cpu_s for one in own):.2f}",
            f"{ratio:.2f}" if pairs else "–",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Search under every approach, and print or write the tables."""
    asked = _arguments(argv)
    torch.set_num_threads(1)
    found: list[Search] = []
    if asked.read is not None:
        kept = [json.loads(path.read_text("utf-8")) for path in asked.read]
        found = from_plain(list[Search], [one for part in kept for one in part])
    else:
        search("diabetes", 999, "plateau", most=2)  # what is imported and cached only once
        for seed in range(asked.first, asked.first + asked.seeds):
            for task in asked.only:
                for approach in asked.approach:
                    found.append(search(task, seed, approach))
                    print(found[-1], file=sys.stderr, flush=True)
            if asked.json is not None:
                asked.json.write_text(json.dumps(to_plain(found)) + "\n", encoding="utf-8")
    text = report(found)
    print(text)
    if asked.write_docs:
        write(text, PAGE)
    return 0


def _arguments(argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="+", choices=tuple(PROBLEMS), default=tuple(PROBLEMS))
    parser.add_argument("--approach", nargs="+", choices=APPROACHES, default=APPROACHES)
    parser.add_argument("--json", type=Path, help="keep the results, seed by seed")
    parser.add_argument(
        "--read", type=Path, nargs="+", help="results that were kept, in place of searches"
    )
    parser.add_argument("--write-docs", action="store_true", help=f"write {PAGE.name}")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
