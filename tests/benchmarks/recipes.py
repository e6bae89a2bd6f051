"""Recipes: a training as a few choices, so that a fault is one other choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import sklearn.datasets
import torch
from torch import Tensor, nn

from tests.faults import data
from tests.faults.learner import Learner
from tests.faults.program import Training

RAW = 100.0
"""What inputs that come scaled are multiplied by to make them raw."""


@dataclass(frozen=True)
class Recipe:
    """A training of a classifier.

    Attributes:
        data: One of ``DATA``.
        family: ``"mlp"``, ``"cnn"``, ``"lstm"`` or ``"rnn"``.
        depth: Hidden layers; of recurrent networks and convolutions there are always one and two.
        width: Units, channels or hidden states of a layer.
        activation: Activation between the layers.
        optimizer: Class of ``torch.optim``.
        rate: Learning rate.
        momentum: Momentum, of SGD only.
        weights: Standard deviation of the first weights; None for torch's own choice.
        bias: First value of every bias before an activation; None for torch's own choice.
        recurrent: Factor of the identity that the recurrent weights begin as; None for torch's own.
        raw: Whether the inputs are left as they were measured, or blown up a hundred times.
    """

    data: str
    family: str = "mlp"
    depth: int = 2
    width: int = 48
    activation: type[nn.Module] = nn.ReLU
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam
    rate: float = 3e-3
    momentum: float = 0.0
    weights: float | None = None
    bias: float | None = None
    recurrent: float | None = None
    raw: bool = False

    def training(self) -> Training:
        """Return what is handed to ``Trainer`` and ``fit``: some 400 optimizer steps."""
        x, y, raw, batch_size, epochs = DATA[self.data]()
        inputs = raw if self.raw else x
        if self.family == "mlp":
            inputs = inputs.flatten(1)
        train, validation = data.loaders(inputs, y, batch_size=batch_size)
        net = self._initialized(_network(self, inputs.shape[1:], int(y.max()) + 1))
        module = Learner(net, optimizer=self._optimizer)
        return Training(module, train, validation, {"max_epochs": epochs})

    def _optimizer(self, parameters: Any) -> Any:
        extra = {"momentum": self.momentum} if self.optimizer is torch.optim.SGD else {}
        make: Callable[..., Any] = self.optimizer
        return make(parameters, lr=self.rate, **extra)

    def _initialized(self, net: nn.Module) -> nn.Module:
        layers = [part for part in net.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        for layer in layers if self.weights is not None else ():
            nn.init.normal_(layer.weight, std=self.weights)
        for layer in layers[:-1] if self.bias is not None else ():
            nn.init.constant_(layer.bias, self.bias)
        return net


class Reader(nn.Module):
    """A recurrent network that reads an image row by row.

    Args:
        body: ``nn.RNN`` or ``nn.LSTM``, batch first.
        classes: Number of classes.
    """

    def __init__(self, body: nn.RNNBase, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(body.hidden_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of images ``[N, channels, height, width]``."""
        return self.head(self.body(x.transpose(1, 2).flatten(2))[0][:, -1])


def _network(recipe: Recipe, shape: torch.Size, classes: int) -> nn.Module:
    makers = {"mlp": _mlp, "cnn": _cnn, "lstm": _recurrent, "rnn": _recurrent}
    return makers[recipe.family](recipe, shape, classes)


def _mlp(recipe: Recipe, shape: torch.Size, classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    before = shape.numel()
    for _ in range(recipe.depth):
        layers += [nn.Linear(before, recipe.width), recipe.activation()]
        before = recipe.width
    return nn.Sequential(*layers, nn.Linear(before, classes))


def _cnn(recipe: Recipe, shape: torch.Size, classes: int) -> nn.Module:
    width = recipe.width // 3
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 3, padding=1), recipe.activation(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), recipe.activation(), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(16 * width, classes),
    )  # fmt: skip


def _recurrent(recipe: Recipe, shape: torch.Size, classes: int) -> nn.Module:
    inputs = shape[0] * shape[2]
    if recipe.family == "lstm":
        return Reader(nn.LSTM(inputs, recipe.width, batch_first=True), classes)
    # A plain recurrence of rectifiers explodes by itself; of tanh it does not.
    kind = "tanh" if recipe.recurrent is None else "relu"
    body = nn.RNN(inputs, recipe.width, nonlinearity=kind, batch_first=True)
    if recipe.recurrent is not None:
        body.weight_hh_l0.data = recipe.recurrent * torch.eye(recipe.width)
    return Reader(body, classes)


Table = tuple[Tensor, Tensor, Tensor, int, int]
"""Scaled inputs, labels, raw inputs, samples in a batch, epochs."""


def _plane(points: Any, labels: Any) -> Table:
    x = data.standardized(torch.as_tensor(points, dtype=torch.float32))
    return x, torch.as_tensor(labels), 10 * RAW + RAW * x, 32, 18


@cache
def _circles() -> Table:
    return _plane(*sklearn.datasets.make_circles(1000, noise=0.08, factor=0.5, random_state=0))


@cache
def _blobs() -> Table:
    return _plane(
        *sklearn.datasets.make_blobs(1000, centers=5, cluster_std=0.8, random_state=3)[:2]
    )


@cache
def _digits() -> Table:
    images, labels = data.digits()
    return images / 16, labels, images / 16 * RAW, 32, 10


@cache
def _wine() -> Table:
    x, y = data.wine()
    return data.standardized(x), y, x, 16, 45


@cache
def _breast_cancer() -> Table:
    x, y = data.breast_cancer()
    return data.standardized(x), y, x, 32, 30


@cache
def _photographs() -> Table:
    patches, labels = data.photographs()
    return patches / 127.5 - 1, labels, patches, 32, 20


DATA: dict[str, Callable[[], Table]] = {
    "circles": _circles,
    "blobs": _blobs,
    "digits": _digits,
    "wine": _wine,
    "breast-cancer": _breast_cancer,
    "photographs": _photographs,
}
