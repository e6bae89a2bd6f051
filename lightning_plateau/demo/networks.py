"""The user's code of the demo: a classifier for Lightning, and the networks that people give it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from lightning_plateau.demo.digits import CLASSES
from lightning_plateau.framework import LightningModule

OptimizerFactory = Callable[[LightningModule], torch.optim.Optimizer]


def adam(module: LightningModule, learning_rate: float = 1e-3) -> torch.optim.Optimizer:
    """Return Adam with its usual learning rate."""
    return torch.optim.Adam(module.parameters(), lr=learning_rate)


def sgd(learning_rate: float, weight_decay: float = 0.0) -> OptimizerFactory:
    """Return a maker of stochastic gradient descent with the usual momentum."""
    return lambda module: torch.optim.SGD(
        module.parameters(), lr=learning_rate, momentum=0.9, weight_decay=weight_decay
    )


class Classifier(LightningModule):
    """A classifier as Lightning's own tutorials write it.

    Args:
        network: Images ``[n, 1, 8, 8]`` to scores ``[n, 10]``.
        optimizer: Makes the optimizer.
    """

    def __init__(self, network: nn.Module, optimizer: OptimizerFactory = adam) -> None:
        super().__init__()
        self.network = network
        self.optimizer_factory = optimizer

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the classes."""
        scores: Tensor = self.network(images)
        return scores

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        return cross_entropy(self(images), labels)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log loss and accuracy."""
        images, labels = batch
        scores = self(images)
        self.log("val_loss", cross_entropy(scores, labels), prog_bar=True)
        self.log("val_accuracy", (scores.argmax(1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return self.optimizer_factory(self)


@torch.no_grad()
def accuracy(module: LightningModule, batches: DataLoader[tuple[Tensor, ...]]) -> float:
    """Return the share of samples, 0 … 1, that ``module`` in evaluation mode gets right."""
    module.eval()
    right = total = 0
    for images, labels in batches:
        right += int((module(images.to(module.device)).argmax(1).cpu() == labels).sum())
        total += len(labels)
    return right / total


def convolutional() -> nn.Sequential:
    """Return the small network of the healthy run: convolutions, each with batch norm."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, CLASSES),
    )


def perceptron(width: int, depth: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return ``depth`` hidden layers of ``width`` units, without normalization."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = 64
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, CLASSES))


def normalized_perceptron(width: int = 64) -> nn.Sequential:
    """Return two hidden layers, each with batch norm: every statistic rests on the batch alone."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, CLASSES),
    )


class Reader(nn.Module):
    """A plain recurrent network that reads an image from left to right, top to bottom.

    Args:
        pixels: Pixels that it reads at a time; ``64 / pixels`` steps of recurrence.
        width: Units of its state.
        gain: How much longer a state gets by the recurrent weights at the start.
    """

    def __init__(self, pixels: int = 4, width: int = 64, gain: float = 1.0) -> None:
        super().__init__()
        self.pixels = pixels
        self.recurrent = nn.RNN(pixels, width, nonlinearity="relu", batch_first=True)
        self.recurrent.weight_hh_l0 = nn.Parameter(
            gain * nn.init.orthogonal_(torch.empty(width, width))
        )
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the classes."""
        states, _ = self.recurrent(images.reshape(len(images), -1, self.pixels))
        scores: Tensor = self.head(states[:, -1])
        return scores
