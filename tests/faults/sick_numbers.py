"""Sick: numbers that leave the range of their type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.program import Training, program


def _digits(batch_size: int = 32) -> Any:
    images, labels = data.digits()
    return data.loaders(images.flatten(1) / 16, labels, batch_size=batch_size)


@program("LP207", "LP204", accepted=("LP406",), shows=("LP201",))
def logarithm_of_a_probability() -> Training:
    """−y · log(softmax) by hand: a probability underflows to 0."""
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        probabilities = torch.softmax(30 * said, dim=1)
        return -(F.one_hot(y, 10) * torch.log(probabilities)).sum(1).mean()

    return Training(Learner(net, loss, sgd(0.1)), *_digits(), {"max_epochs": 5})


@program("LP207", "LP204", data="iris", part="validation")
def distance_of_a_point_to_itself() -> Training:
    """The root of squared distances, zero on the diagonal: its gradient is infinite."""
    x, y = data.iris()
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        gaps = (said[:, None] - said[None]).square().sum(-1).sqrt()
        same = (y[:, None] == y[None]).float()
        return (same * gaps + (1 - same) * F.relu(2 - gaps)).mean()

    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    return Training(Learner(net, loss, adam()), train, validation, {"max_epochs": 10})


@program("LP204", "LP207", "LP101", data="breast-cancer", part="validation")
def exponential_of_raw_features() -> Training:
    """exp of features in the thousands overflows in the first layer."""
    x, y = data.breast_cancer()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(30, 16)
            self.out = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.exp(self.fc(x))
            return self.out(h / h.sum(1, keepdim=True))

    train, validation = data.loaders(x, y, batch_size=32)
    return Training(Learner(Net(), optimizer=sgd(0.01)), train, validation, {"max_epochs": 5})


@program("LP204", "LP207", data="diabetes")
def divided_by_a_spread_of_zero() -> Training:
    """Each sample is standardized over its features, and one column is left."""
    x, y = data.diabetes()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1, 16)
            self.out = nn.Linear(16, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = x[:, 2:3]
            x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, unbiased=False)
            return self.out(torch.relu(self.fc(x))).squeeze(1)

    train, validation = data.loaders(x * 20, (y - y.mean()) / y.std())
    return Training(Learner(Net(), F.mse_loss, adam()), train, validation, {"max_epochs": 5})
