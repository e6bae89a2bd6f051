"""Sick: the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.program import Training, program


def _cnn(channels: int = 1, outputs: int = 10, features: int = 72) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(features, outputs),
    )  # fmt: skip


@program("LP101", accepted=("LP406",), data="wine")
def raw_features() -> Training:
    """Wine as it comes: proline in the hundreds beside hues about one."""
    x, y = data.wine()
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    train, validation = data.loaders(x, y, batch_size=16)
    return Training(Learner(net, optimizer=sgd(0.01)), train, validation, {"max_epochs": 20})


@program("LP101", accepted=("LP406", "LP501"), family="cnn", data="photographs", part="validation")
def raw_pixels() -> Training:
    """Photographs of 0 … 255 into a network without normalization."""
    patches, labels = data.photographs()
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 25, 64), nn.ReLU(), nn.Linear(64, 2),
    )  # fmt: skip
    train, validation = data.loaders(patches.float(), labels)
    return Training(Learner(net, optimizer=sgd(0.05)), train, validation, {"max_epochs": 8})


@program("LP101", accepted=("LP406", "LP501", "LP706"), data="breast-cancer", part="validation")
def raw_tumours() -> Training:
    """Areas of thousands of square millimetres into a network."""
    x, y = data.breast_cancer()
    net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(said, y.float())

    train, validation = data.loaders(x, y, batch_size=32)
    return Training(Learner(net, loss, sgd(0.01)), train, validation, {"max_epochs": 15})


@program("LP102", data="diabetes", shows=("LP202",))
def gaps_in_the_table() -> Training:
    """Missing values are NaN."""
    x, y = data.diabetes()
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.01
    train, validation = data.loaders(x.masked_fill(holes, float("nan")), (y - y.mean()) / y.std())
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    return Training(Learner(net, F.mse_loss, adam()), train, validation, {"max_epochs": 10})


@program("LP102", accepted=("LP605",), family="cnn", data="photographs", part="validation")
def divided_by_their_own_range() -> Training:
    """Each patch is divided by its range, and a few are of one colour."""
    patches, labels = data.photographs()
    patches = patches.float()
    patches[7::97] = 128.0
    low, high = patches.amin((1, 2, 3), True), patches.amax((1, 2, 3), True)
    train, validation = data.loaders((patches - low) / (high - low), labels)
    return Training(
        Learner(_cnn(3, 2, 392), optimizer=adam()), train, validation, {"max_epochs": 4}
    )


@program("LP106", data="wine", accepted=("LP801",))
def labels_of_other_wines() -> Training:
    """Features were sorted, labels were not."""
    x, y = data.wine()
    x = data.standardized(x)[x[:, 0].argsort()]
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(5))]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(6))
    net = nn.Sequential(
        nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
    )
    train, validation = data.loaders(x[order], y[order], batch_size=16)
    return Training(Learner(net, optimizer=adam(3e-3)), train, validation, {"max_epochs": 40})


@program("LP109", family="cnn", part="validation")
def sorted_by_class() -> Training:
    """A folder of each class, read one after the other without shuffling."""
    images, labels = data.digits()
    order = labels[:1348].argsort(stable=True)
    train = DataLoader(TensorDataset(images[order] / 16, labels[order]), 32)
    _, validation = data.loaders(images / 16, labels)
    return Training(Learner(_cnn(), optimizer=sgd(0.1)), train, validation, {"max_epochs": 6})


@program("LP109", data="iris")
def iris_as_in_the_file() -> Training:
    """Iris is sorted by species, and shuffle=True is missing."""
    x, y = data.iris()
    order = y.argsort(stable=True)
    train = DataLoader(TensorDataset(data.standardized(x)[order], y[order]), 10)
    _, validation = data.loaders(data.standardized(x), y)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    return Training(Learner(net, optimizer=sgd(0.5)), train, validation, {"max_epochs": 20})


@program("LP110", accepted=("LP406", "LP407", "LP706", "LP414"), data="diabetes")
def targets_as_measured() -> Training:
    """Targets of 25 … 346 as they are, and Adam's usual rate."""
    x, y = data.diabetes()
    train, validation = data.loaders(x * 20, y, batch_size=32)
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    return Training(Learner(net, F.mse_loss, adam()), train, validation, {"max_epochs": 20})


@program(
    "LP110",
    "LP301",
    "LP406",
    accepted=("LP406", "LP301", "LP706"),
    data="diabetes",
    part="validation",
)
def targets_in_thousands() -> Training:
    """The same times a thousand, with SGD: the gradients are huge."""
    x, y = data.diabetes()
    train, validation = data.loaders(x * 20, 1000 * y, batch_size=32)
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
    return Training(Learner(net, F.mse_loss, sgd(0.01)), train, validation, {"max_epochs": 15})


@program("LP801", accepted=("LP107",), data="breast-cancer")
def thirty_noisy_tumours() -> Training:
    """Thirty noisy samples, and a network of thousands of weights."""
    x, y = data.breast_cancer()
    x = data.standardized(x)
    x = x + 2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    train = DataLoader(TensorDataset(x[:30], y[:30]), 10, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[30:], y[30:]), 256)
    net = nn.Sequential(
        nn.Linear(30, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2)
    )
    return Training(Learner(net, optimizer=adam(1e-3)), train, validation, {"max_epochs": 80})


@program("LP801", accepted=("LP107",), family="transformer", data="text", part="validation")
def forty_lines_of_text() -> Training:
    """A language model on forty lines."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(128, 64)
            self.rnn = nn.LSTM(64, 128, batch_first=True)
            self.head = nn.Linear(128, 128)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(self.embed(x))[0])

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said.flatten(0, 1), y.flatten())

    x, y = data.text()
    train = DataLoader(TensorDataset(x[:40], y[:40]), 10, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[40:240], y[40:240]), 100)
    return Training(Learner(Model(), loss, adam(3e-3)), train, validation, {"max_epochs": 120})


@program("LP111", "LP602", data="breast-cancer")
def validation_as_in_the_file() -> Training:
    """Training data are standardized, validation data are not."""
    x, y = data.breast_cancer()
    train = DataLoader(TensorDataset(data.standardized(x)[:400], y[:400]), 32, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[400:], y[400:]), 64)
    net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))
    return Training(Learner(net, optimizer=adam()), train, validation, {"max_epochs": 8})
