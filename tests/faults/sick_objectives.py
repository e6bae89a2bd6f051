"""Sick: the loss is given what it cannot read, or asks for what the network cannot say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.program import Training, program


def _digits(batch_size: int = 32, labels: Tensor | None = None) -> Any:
    images, right = data.digits()
    return data.loaders(
        images.flatten(1) / 16, right if labels is None else labels, batch_size=batch_size
    )


def _cancer(labels: Tensor | None = None, batch_size: int = 32) -> Any:
    features, right = data.breast_cancer()
    return data.loaders(
        data.standardized(features), right if labels is None else labels, batch_size=batch_size
    )


@program("LP701", family="cnn", part="validation")
def probabilities_from_the_forward() -> Training:
    """The forward returns softmax probabilities, and cross entropy follows."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 8, 3)
            self.conv2 = nn.Conv2d(8, 16, 3)
            self.fc = nn.Linear(16 * 16, 10)
            self.criterion = nn.CrossEntropyLoss()

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv2(F.relu(self.conv1(x))))
            return F.softmax(self.fc(x.view(x.size(0), -1)), dim=1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return self.criterion(self(x), y)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    images, labels = data.digits()
    return Training(Net(), data.loaders(images / 16, labels)[0], None, {"max_epochs": 6})


@program("LP701", family="mlp", data="wine", shows=("LP405",))
def exponentials_normalized_by_hand() -> Training:
    """Softmax is written by hand, and cross entropy follows."""

    def loss(scores: Tensor, y: Tensor) -> Tensor:
        powers = torch.exp(scores)
        return F.cross_entropy(powers / powers.sum(1, keepdim=True), y)

    train, validation = data.loaders(
        data.standardized(data.wine()[0]), data.wine()[1], batch_size=16
    )
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    return Training(Learner(net, loss, sgd(0.01)), train, validation, {"max_epochs": 20})


@program("LP702", accepted=("LP705",), family="mlp")
def rectified_logits() -> Training:
    """The last layer has a ReLU too, and cross entropy follows."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(64, 128)
            self.fc2 = nn.Linear(128, 64)
            self.fc3 = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            for layer in (self.fc1, self.fc2, self.fc3):
                x = F.relu(layer(x))
            return x

    return Training(Learner(Net(), optimizer=sgd(0.05)), *_digits(), {"max_epochs": 8})


@program("LP702", accepted=("LP705",), data="breast-cancer")
def sigmoid_twice() -> Training:
    """A sigmoid in the network, and another in BCEWithLogitsLoss."""
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return nn.BCEWithLogitsLoss()(said.squeeze(1), y.float())

    return Training(Learner(net, loss, adam()), *_cancer(), {"max_epochs": 10})


@program("LP702", data="breast-cancer", part="validation")
def logits_into_plain_bce() -> Training:
    """BCELoss is given scores that no sigmoid has passed: torch raises."""
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy(said.squeeze(1), y.float())

    return Training(Learner(net, loss, adam()), *_cancer(), {"max_epochs": 10})


@program("LP702", "LP705", family="mlp", data="wine", part="validation", shows=("LP405",))
def sigmoid_before_cross_entropy() -> Training:
    """A sigmoid on each of three scores, and cross entropy follows."""
    train, validation = data.loaders(
        data.standardized(data.wine()[0]), data.wine()[1], batch_size=16
    )
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3), nn.Sigmoid())
    return Training(Learner(net, optimizer=sgd(0.01)), train, validation, {"max_epochs": 20})


@program("LP703", accepted=("LP401", "LP110"), data="diabetes", shows=("LP401",))
def column_against_row() -> Training:
    """Predictions of shape (N, 1) against targets of shape (N,)."""
    x, y = data.diabetes()
    train, validation = data.loaders(x * 20, (y - y.mean()) / y.std(), batch_size=32)
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    return Training(Learner(net, F.mse_loss, adam()), train, validation, {"max_epochs": 20})


@program("LP703", accepted=("LP401", "LP110"), data="diabetes", part="validation")
def column_against_row_by_hand() -> Training:
    """The same in a loss that is written by hand."""
    x, y = data.diabetes()
    train, validation = data.loaders(x * 20, (y - y.mean()) / y.std(), batch_size=64)
    net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))

    def loss(said: Tensor, target: Tensor) -> Tensor:
        return ((target - said) ** 2).mean()

    return Training(Learner(net, loss, adam()), train, validation, {"max_epochs": 25})


@program("LP105", data="wine")
def classes_from_one() -> Training:
    """Classes are counted from 1 as in the file."""
    train, validation = data.loaders(
        data.standardized(data.wine()[0]), data.wine()[1] + 1, batch_size=16
    )
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    return Training(Learner(net), train, validation, {"max_epochs": 5})


@program("LP105", family="cnn", part="validation")
def one_output_too_few() -> Training:
    """Nine outputs for ten digits."""
    images, labels = data.digits()
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 9))
    return Training(Learner(net), *data.loaders(images / 16, labels), {"max_epochs": 5})


@program("LP704", "LP406", accepted=("LP301", "LP406", "LP704"), data="breast-cancer")
def summed_over_the_batch() -> Training:
    """The loss is summed over a batch of 256, with the learning rate meant for the mean."""
    net = nn.Sequential(
        nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said, y, reduction="sum")

    module = Learner(net, loss, sgd(0.1, momentum=0.9))
    return Training(module, *_cancer(batch_size=128), {"max_epochs": 30})


@program("LP705", "LP702", family="autoencoder", part="validation")
def squashed_reconstruction() -> Training:
    """An autoencoder ends in a sigmoid, and its pixels go up to 16."""

    class Coder(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
            self.decoder = nn.Sequential(
                nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid()
            )

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x = batch[0].flatten(1)
            return F.mse_loss(self.decoder(self.encoder(x)), x)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    return Training(Coder(), data.loaders(*data.digits())[0], None, {"max_epochs": 10})


@program("LP705", "LP702", data="diabetes")
def tanh_for_standardized_targets() -> Training:
    """Targets of standard deviation 3 behind a tanh."""
    x, y = data.diabetes()
    train, validation = data.loaders(x * 20, 3 * (y - y.mean()) / y.std(), batch_size=32)
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh(), nn.Flatten(0))
    return Training(Learner(net, F.mse_loss, adam(1e-2)), train, validation, {"max_epochs": 30})


@program("LP705", "LP702", data="diabetes", part="validation")
def rectified_regression() -> Training:
    """Standardized targets, half of them negative, behind a ReLU."""
    x, y = data.diabetes()
    train, validation = data.loaders(x * 20, (y - y.mean()) / y.std(), batch_size=32)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(10, 32)
            self.fc2 = nn.Linear(32, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.fc2(torch.relu(self.fc1(x)))).squeeze(-1)

    return Training(Learner(Net(), F.mse_loss, adam(1e-2)), train, validation, {"max_epochs": 30})


@program("LP708", data="iris")
def softmax_over_the_batch() -> Training:
    """Log-softmax over dimension 0: the samples compete with each other."""
    x, y = data.iris()
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.nll_loss(F.log_softmax(said, dim=0), y)

    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    return Training(Learner(net, loss, adam(1e-2)), train, validation, {"max_epochs": 20})


@program("LP708", family="rnn", part="validation")
def recurrence_over_the_batch() -> Training:
    """An LSTM without batch_first on images of shape (N, rows, columns)."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 32)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            states, _ = self.lstm(x.squeeze(1))
            return self.head(states[:, -1])

    images, labels = data.digits()
    train, validation = data.loaders(images / 16, labels)
    return Training(Learner(Reader(), optimizer=adam(3e-3)), train, validation, {"max_epochs": 4})
