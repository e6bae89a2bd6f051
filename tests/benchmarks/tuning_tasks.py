"""What the benchmark of tuning searches: three tasks on bundled data, and a wide space."""

from __future__ import annotations

import argparse
import inspect
import statistics
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from optuna.distributions import FloatDistribution
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.framework import LightningDataModule, LightningModule
from lightning_plateau.tuning.blueprint import Blueprint
from lightning_plateau.tuning.space import Space

Name = Literal["digits", "diabetes", "text"]
LENGTH, WINDOWS = 24, 1500
ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
INITIALIZATIONS: Mapping[str, Callable[[Tensor], Any] | None] = {
    "default": None,
    "kaiming": nn.init.kaiming_normal_,
    "xavier": nn.init.xavier_uniform_,
    "small": lambda weight: nn.init.normal_(weight, std=0.01),
    "large": lambda weight: nn.init.normal_(weight, std=1.0),
}

SPACE = Space.of(
    {
        "learning_rate": FloatDistribution(1e-5, 10.0, log=True),
        "optimizer": ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"],
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
        "batch_size": [16, 32, 64, 128],
        "activation": list(ACTIVATIONS),
        "dropout": FloatDistribution(0.0, 0.7),
        "initialization": list(INITIALIZATIONS),
    }
)
"""What one searches who does not know where to look."""


@dataclass(frozen=True)
class Task:
    """A task and the validation loss that the search is to reach.

    Attributes:
        name: What it is.
        target: A loss that about one random trial in seven reaches, by 36 trials of another seed.
        epochs: Epochs of a trial.
    """

    name: Name
    target: float
    epochs: int

    def blueprint(self) -> Blueprint:
        """Return what is trained."""
        trainer = {"max_epochs": self.epochs, "accelerator": "cpu", "devices": 1}
        return Blueprint(
            Learner, Data, trainer=trainer, fixed={"model.task": self.name, "data.task": self.name}
        )


TASKS: Mapping[str, Task] = {
    "digits": Task("digits", 0.107, 16),
    "diabetes": Task("diabetes", 0.515, 80),
    "text": Task("text", 2.128, 11),
}


class Learner(LightningModule):
    """A network as a user writes it, with everything that is searched for an argument."""

    def __init__(
        self,
        task: Name,
        activation: str = "relu",
        dropout: float = 0.0,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        made = {"digits": convolutional, "diabetes": perceptron, "text": Recurrent}
        self.net = made[task](ACTIVATIONS[activation], dropout)
        fill = INITIALIZATIONS[initialization]
        for weight in self.parameters() if fill is not None else ():
            if weight.dim() > 1:
                fill(weight)

    def loss(self, batch: Any) -> Tensor:
        """Return cross entropy for classes, the squared error for a number."""
        samples, targets = batch
        found = self.net(samples)
        if targets.is_floating_point():
            return F.mse_loss(found[:, 0], targets)
        return F.cross_entropy(found, targets)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss."""
        self.log("val_loss", self.loss(batch))


def convolutional(activation: type[nn.Module], dropout: float) -> nn.Module:
    """Return a network for images of 8 by 8."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        activation(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        activation(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(256, 64),
        activation(),
        nn.Linear(64, 10),
    )


def perceptron(activation: type[nn.Module], dropout: float) -> nn.Module:
    """Return a network for ten numbers."""
    return nn.Sequential(
        nn.Linear(10, 64),
        activation(),
        nn.Dropout(dropout),
        nn.Linear(64, 64),
        activation(),
        nn.Dropout(dropout),
        nn.Linear(64, 1),
    )


class Recurrent(nn.Module):
    """A network that guesses the next letter."""

    def __init__(self, activation: type[nn.Module], dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(letters(), 16)
        self.recurrent = nn.GRU(16, 48, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(48, 48), activation(), nn.Dropout(dropout), nn.Linear(48, letters())
        )

    def forward(self, samples: Tensor) -> Tensor:
        """Return logits of the letter that follows each text."""
        return self.head(self.recurrent(self.embedding(samples))[0][:, -1])


@cache
def text() -> Tensor:
    """Return letters of the standard library, as numbers."""
    modules = (argparse, inspect, statistics, textwrap)
    written = " ".join((inspect.getdoc(one) or "") + inspect.getsource(one) for one in modules)
    plain = "".join(one if one.isalpha() else " " for one in written.lower() if one.isascii())
    return torch.tensor([ord(one) - ord("a") + 1 if one != " " else 0 for one in plain])


def letters() -> int:
    """Return how many letters there are."""
    return 27


@cache
def samples_of(task: Name) -> tuple[Tensor, Tensor]:
    """Return samples and targets, in one random order."""
    generator = torch.Generator().manual_seed(0)
    if task == "text":
        starts = torch.randint(len(text()) - LENGTH, (WINDOWS,), generator=generator)
        windows = torch.stack([text()[start : start + LENGTH + 1] for start in starts])
        return windows[:, :-1], windows[:, -1]
    found = load_digits() if task == "digits" else load_diabetes()
    samples, targets = torch.tensor(found.data).float(), torch.tensor(found.target)
    samples = (samples - samples.mean(0)) / (samples.std(0) + 1e-6)
    if task == "digits":
        samples = samples.reshape(-1, 1, 8, 8)
    else:
        targets = ((targets - targets.mean()) / targets.std()).float()
    order = torch.randperm(len(samples), generator=generator)
    return samples[order], targets[order]


class Data(LightningDataModule):
    """The samples of a task, a quarter of them for validation."""

    def __init__(self, task: Name, batch_size: int = 32) -> None:
        super().__init__()
        self.task, self.batch_size = task, batch_size

    def _loader(self, *, training: bool) -> Any:
        samples, targets = samples_of(self.task)
        first = len(samples) // 4
        part = slice(first, None) if training else slice(0, first)
        set_ = TensorDataset(samples[part], targets[part])
        return DataLoader(set_, self.batch_size if training else 512, shuffle=training)

    def train_dataloader(self) -> Any:
        """Return three quarters of the samples."""
        return self._loader(training=True)

    def val_dataloader(self) -> Any:
        """Return a quarter of them."""
        return self._loader(training=False)
