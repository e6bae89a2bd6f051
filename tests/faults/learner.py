"""The plainest LightningModule: a network, its loss, its optimizer; and how well it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_plateau.framework import LightningModule

Loss = Callable[[Tensor, Tensor], Tensor]
MakeOptimizer = Callable[[Any], Any]
MakeScheduler = Callable[[Any], Any]


def adam(rate: float = 1e-3, **settings: Any) -> MakeOptimizer:
    """Return what makes Adam of parameters."""
    return lambda parameters: torch.optim.Adam(parameters, lr=rate, **settings)


def sgd(rate: float = 0.1, **settings: Any) -> MakeOptimizer:
    """Return what makes stochastic gradient descent of parameters."""
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, **settings)


class Learner(LightningModule):
    """A network trained on pairs of inputs and targets.

    Args:
        net: The network.
        loss: From predictions and targets to a scalar.
        optimizer: Makes the optimizer of the trainable parameters.
        scheduler: Makes the scheduler of the optimizer; None for a constant rate.
        interval: When Lightning steps it: ``"epoch"`` or ``"step"``.
        monitor: Metric that the scheduler waits for; None for none.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss = F.cross_entropy,
        optimizer: MakeOptimizer | None = None,
        scheduler: MakeScheduler | None = None,
        *,
        interval: str = "epoch",
        monitor: str | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self._loss = loss
        self._optimizer = optimizer or adam()
        self._scheduler = scheduler
        self._when = {"interval": interval, **({"monitor": monitor} if monitor else {})}

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return self._loss(self(x), y)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", self._loss(self(x), y))

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        if self._scheduler is None:
            return optimizer
        return [optimizer], [{"scheduler": self._scheduler(optimizer), **self._when}]


@torch.no_grad()
def answers(module: nn.Module, loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """Return what ``module`` says of every sample of ``loader``, and the targets."""
    module.eval()
    pairs = [(module(x), y) for x, y in loader]
    return torch.cat([said for said, _ in pairs]), torch.cat([y for _, y in pairs])


def accuracy(module: nn.Module, loader: DataLoader[Any]) -> float:
    """Return the share of samples whose class is the largest of dimension 1."""
    said, y = answers(module, loader)
    return float((said.argmax(1) == y).double().mean())


def explained(module: nn.Module, loader: DataLoader[Any]) -> float:
    """Return the share of the targets' variance that ``module`` explains, 1 for all."""
    said, y = answers(module, loader)
    return float(1 - (said.reshape(y.shape) - y).square().mean() / y.var())
