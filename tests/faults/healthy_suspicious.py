"""Healthy: what looks like a fault that people report, and is none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, answers, explained, sgd
from tests.faults.program import Training, program

EPOCHS = {"max_epochs": 10}


def _digits(targets: Any = None, *, flat: bool = True, batch_size: int = 32) -> Any:
    images, labels = data.digits()
    x = images.flatten(1) / 16 if flat else images / 16
    y = labels if targets is None else targets(x, labels)
    return data.loaders(x, y, batch_size=batch_size)


def _mlp(outputs: int = 10, inputs: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, outputs))


def _classifier(module: LightningModule, pair: Any, least: float = 0.85) -> Training:
    return Training(module, *pair, EPOCHS, lambda: accuracy(module, pair[1]) > least)


@program()
def sum_of_losses_with_adam() -> Training:
    """The loss is a sum over the batch, and Adam does not mind."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said, y, reduction="sum")

    return _classifier(Learner(_mlp(), loss), _digits())


@program(part="validation")
def small_rate_with_much_momentum() -> Training:
    """A rate of 1e-3 looks small, but a momentum of 0.99 makes a hundred of it."""
    module = Learner(_mlp(), optimizer=sgd(1e-3, momentum=0.99))
    return _classifier(module, _digits())


@program()
def straight_through_a_choice() -> Training:
    """A hard choice in the middle passes gradients on by the soft one that it detaches."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = _mlp(32), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            soft = torch.sigmoid(self.body(x))
            hard = (soft > 0.5).float()
            return self.head(hard + soft - soft.detach())

    return _classifier(Learner(Net(), optimizer=adam(3e-3)), _digits())


@program()
def head_that_begins_at_zero() -> Training:
    """The last layer starts at zero on purpose, so that the first loss is that of guessing."""
    net = _mlp()
    nn.init.zeros_(net[2].weight)
    nn.init.zeros_(net[2].bias)
    return _classifier(Learner(net), _digits())


@program(family="cnn", part="validation")
def four_samples_with_group_norm() -> Training:
    """Batches of four are too small for batch norm, and group norm does not care."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10)
    )
    images, labels = data.digits()
    return _classifier(Learner(net), data.loaders(images[:800] / 16, labels[:800], batch_size=4))


@program()
def random_features_and_a_reader() -> Training:
    """A wide random layer stays frozen on purpose; a linear reader learns from it."""
    net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))
    net[0].requires_grad_(False)
    return _classifier(Learner(net, optimizer=adam(3e-3)), _digits())


@program(family="regression", data="diabetes", part="validation")
def density_above_one() -> Training:
    """A Gaussian likelihood of a nearly exact relation: the loss goes below zero, rightly."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            mean, log_std = self.net(x).chunk(2, dim=1)
            z = (y[:, None] - mean) / log_std.exp()
            return (0.5 * z**2 + log_std + 0.919).mean()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)[:, 0]

    x, _ = data.diabetes()
    x = data.standardized(x)
    y = 0.3 * x[:, 2] - 0.2 * x[:, 8] + 0.1 * x[:, 3]
    pair = data.loaders(x, y)
    module = Net(nn.Linear(10, 2), optimizer=adam(1e-2))
    return Training(module, *pair, {"max_epochs": 40}, lambda: explained(module, pair[1]) > 0.9)


@program(family="segmentation", part="validation")
def overlap_made_large() -> Training:
    """Minus the overlap of mask and prediction is minimized, which makes it large."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(said)
        return -(2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)

    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    module = Learner(net, loss, adam(3e-3))
    pair = _digits(lambda x, _: (x > 0.5).float(), flat=False)

    def learned() -> bool:
        said, y = answers(module, pair[1])
        return bool(((said > 0) == (y > 0.5)).float().mean() > 0.9)

    return Training(module, *pair, EPOCHS, learned)


@program(family="regression", data="diabetes")
def grades_as_whole_numbers() -> Training:
    """Five grades of a disease, stored as whole numbers: their order means something."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(said.squeeze(1), y.float())

    x, y = data.diabetes()
    edges = torch.quantile(y, torch.tensor([0.2, 0.4, 0.6, 0.8]))
    grades = torch.bucketize(y, edges)
    pair = data.loaders(data.standardized(x), grades)
    module = Learner(_mlp(1, 10), loss, adam(3e-3))

    def learned() -> bool:
        said, truth = answers(module, pair[1])
        return bool(torch.corrcoef(torch.stack([said.squeeze(1), truth.float()]))[0, 1] > 0.5)

    return Training(module, *pair, {"max_epochs": 15}, learned)


@program(family="transformer")
def samples_that_look_at_each_other() -> Training:
    """Each batch is a set on purpose: its samples attend to each other beside their own way."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rise, self.head = nn.Linear(64, 64), nn.Linear(64, 10)
            self.look = nn.MultiheadAttention(64, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.rise(x))
            seen, _ = self.look(h[:, None], h[:, None], h[:, None])
            return self.head(h + 0.1 * seen[:, 0])

    return _classifier(Learner(Net()), _digits())
