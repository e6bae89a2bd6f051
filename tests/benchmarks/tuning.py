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
APPROACHES = ("none", "median", "hyperband", "plateau", "plateau+median", "plateau+hyperband")
MOST_TRIALS = 40


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
        return F.mse_loss(found[:, 0], targets) if self.outputs == 1 else F.cross_entropy(found, targets)

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
        target: Loss of the tenth of random trials that are best, measured once on other seeds.
        epochs: Epochs of a trial.
    """

    inputs: int
    outputs: int
    target: float
    epochs: int


PROBLEMS: Mapping[str, Problem] = {
    "digits": Problem(64, 10, 0.0, 8),
    "breast cancer": Problem(30, 2, 0.0, 20),
    "diabetes": Problem(10, 1, 0.0, 20),
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
