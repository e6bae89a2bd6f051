"""Healthy: most of the loss is noise that nobody can learn, or it is made of parts that fight."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, explained
from tests.faults.networks import perceptron
from tests.faults.program import Training, program


@program(data="made up")
def a_quarter_of_it_can_be_known() -> Training:
    """Two of six features tell a quarter of the variance of the target; the rest is noise."""
    x = torch.randn(4000, 6)
    y = 0.5 * x[:, 0] + 0.3 * x[:, 1] + torch.randn(4000)
    train, validation = data.loaders(x, y, batch_size=64)
    module = Learner(perceptron(6, 1, 16), F.mse_loss, adam())
    settings = {"max_epochs": 8}
    return Training(
        module, train, validation, settings, lambda: explained(module, validation) > 0.1
    )


@program(data="made up", part="validation")
def survival_by_risk_sets() -> Training:
    """Cox's partial likelihood, hand-written, of censored times: a loss of a batch as a whole."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        order = torch.argsort(y[:, 0], descending=True)
        risk, event = said[order], y[order, 1]
        return -((risk - torch.logcumsumexp(risk, 0)) * event).sum() / event.sum().clamp(min=1)

    x = torch.randn(1600, 6)
    hazard = x[:, 0] - 0.8 * x[:, 2]
    died = torch.distributions.Exponential(torch.exp(hazard)).sample()
    left = torch.distributions.Exponential(torch.full((1600,), 0.3)).sample()
    y = torch.stack([torch.minimum(died, left), (died <= left).float()], 1)
    train, validation = data.loaders(x, y, batch_size=64)
    module = Learner(perceptron(6, 1, 32), loss, adam(3e-3))

    def learned() -> bool:
        with torch.no_grad():
            seen = torch.corrcoef(torch.stack([module(x), hazard]))
        return float(seen[0, 1]) > 0.8

    return Training(module, train, validation, {"max_epochs": 10}, learned)


@program(family="autoencoder", part="validation")
def latent_cost_that_grows() -> Training:
    """A variational autoencoder whose divergence is weighted from 0 to 1 in 300 steps."""

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = perceptron(64, 16, 64), perceptron(8, 64, 64)

        def loss(self, x: Tensor) -> Tensor:
            mean, logs = self.encode(x).chunk(2, 1)
            said = self.decode(mean + torch.randn_like(mean) * torch.exp(0.5 * logs))
            told = F.binary_cross_entropy_with_logits(said, x, reduction="sum") / len(x)
            apart = 0.5 * (mean.square() + logs.exp() - 1 - logs).sum(1).mean()
            return told + min(1.0, self.global_step / 300) * apart

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self.loss(batch[0])

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", self.loss(batch[0]))

        def configure_optimizers(self) -> Any:
            return adam()(self.parameters())

    images, labels = data.digits()
    train, validation = data.loaders(images.flatten(1) / 16, labels)
    module = Module()

    def learned() -> bool:
        x = images.flatten(1) / 16
        with torch.no_grad():
            said = torch.sigmoid(module.decode(module.encode(x)[:, :8]))
        return float((said - x).square().mean() / x.var(0).mean()) < 0.8

    return Training(module, train, validation, {"max_epochs": 12}, learned)


@program(data="made up", family="mlp")
def two_ways_at_once() -> Training:
    """A mixture of two normal densities: its loss is a log density, and falls below zero."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        weight, mean, width = said.chunk(3, 1)
        density = torch.distributions.Normal(mean, F.softplus(width) + 0.01).log_prob(y)
        return -torch.logsumexp(F.log_softmax(weight, 1) + density, 1).mean()

    x = torch.rand(1600, 1) * 2 - 1
    y = torch.where(torch.rand_like(x) < 0.5, x, -x) + 0.05 * torch.randn_like(x)
    train, validation = data.loaders(x, y)
    net = nn.Sequential(nn.Linear(1, 48), nn.Tanh(), nn.Linear(48, 9))
    module = Learner(net, loss, adam(5e-3))

    def learned() -> bool:
        with torch.no_grad():
            return float(loss(module(x), y)) < 0.0

    return Training(module, train, validation, {"max_epochs": 14}, learned)


@program(part="validation")
def warm_up_by_epochs_that_arrives() -> Training:
    """A warm-up of three epochs that is stepped once an epoch, as it was meant."""

    def warm_up(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1.0, (n + 1) / 3))

    images, labels = data.digits()
    train, validation = data.loaders(images.flatten(1) / 16, labels)
    module = Learner(perceptron(64, 10, 64), optimizer=adam(3e-3), scheduler=warm_up)
    return Training(
        module, train, validation, {"max_epochs": 8}, lambda: accuracy(module, validation) > 0.85
    )


@program(family="contrastive")
def positives_beside_all_others() -> Training:
    """Two noisy views of each image are to find each other, at a temperature of a fifth."""

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = perceptron(64, 32, 64)

        def loss(self, x: Tensor) -> Tensor:
            views = torch.cat([x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x)])
            z = F.normalize(self.net(views), dim=1)
            alike = (z @ z.T / 0.2).fill_diagonal_(-1e9)
            other = torch.arange(len(x))
            return F.cross_entropy(alike, torch.cat([other + len(x), other]))

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self.loss(batch[0])

        def configure_optimizers(self) -> Any:
            return adam()(self.parameters())

    images, labels = data.digits()
    train, _ = data.loaders(images.flatten(1) / 16, labels, batch_size=64)
    module = Module()

    def learned() -> bool:
        with torch.no_grad():
            return float(module.loss(images[:64].flatten(1) / 16)) < 0.6 * math.log(127)

    return Training(module, train, None, {"max_epochs": 12}, learned)


@program(data="made up")
def mostly_noise() -> Training:
    """A tenth of the variance can be explained; what is learned hides in the noise of batches."""
    draw = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2000, 10, generator=draw), torch.randn(2000, generator=draw)
    y = 0.3 * x[:, 0] - 0.2 * x[:, 1] + noise
    module = Learner(perceptron(10, 1, 16), F.mse_loss)
    train, validation = data.loaders(x, y, batch_size=128)
    return Training(
        module, train, validation, {"max_epochs": 12}, lambda: explained(module, validation) > 0.03
    )
