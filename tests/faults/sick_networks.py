"""Sick: initialization, activations, normalization and depth."""

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


def _images(batch_size: int = 32) -> Any:
    images, labels = data.digits()
    return data.loaders(images / 16, labels, batch_size=batch_size)


def _deep(depth: int, act: type[nn.Module], width: int = 32) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(64, width), act()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), act()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


@program("LP302", accepted=("LP401",))
def ten_layers_of_sigmoids() -> Training:
    """Ten layers of sigmoids."""
    return Training(
        Learner(_deep(10, nn.Sigmoid), optimizer=sgd(0.1)), *_digits(), {"max_epochs": 8}
    )


@program("LP302", "LP504", family="mlp", data="breast-cancer", part="validation")
def deep_tanh_with_small_weights() -> Training:
    """Eight layers of tanh whose weights are drawn with a standard deviation of 0.01."""
    layers: list[nn.Module] = []
    inputs = 30
    for _ in range(8):
        layers += [nn.Linear(inputs, 50), nn.Tanh()]
        inputs = 50
    net = nn.Sequential(*layers, nn.Linear(50, 2))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    x, y = data.breast_cancer()
    train, validation = data.loaders(data.standardized(x), y, batch_size=32)
    return Training(Learner(net, optimizer=sgd(0.1)), train, validation, {"max_epochs": 15})


@program("LP302", family="rnn", part="validation")
def long_tanh_recurrence() -> Training:
    """A plain recurrent network reads an image pixel by pixel, with small recurrent weights."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(1, 32, batch_first=True)
            self.head = nn.Linear(32, 10)
            nn.init.normal_(self.rnn.weight_hh_l0, std=0.02)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x.flatten(1)[..., None])[0][:, -1])

    return Training(Learner(Reader(), optimizer=sgd(0.05)), *_images(), {"max_epochs": 6})


@program("LP504", accepted=("LP301", "LP706"), family="rnn")
def every_recurrent_weight_normal() -> Training:
    """Every tensor of a plain recurrent network is drawn from a standard normal distribution."""
    return _read_from_normal(nn.RNN)


@program("LP504", accepted=("LP502", "LP706"), family="rnn", part="validation")
def every_weight_of_a_gated_unit_normal() -> Training:
    """Every tensor of a GRU is drawn from a standard normal distribution."""
    return _read_from_normal(nn.GRU)


def _read_from_normal(kind: type[nn.RNNBase]) -> Training:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = kind(2, 64, batch_first=True), nn.Linear(64, 10)
            for parameter in self.body.parameters():
                nn.init.normal_(parameter)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x.reshape(len(x), 32, 2))[0][:, -1])

    return Training(Learner(Reader(), optimizer=adam(1e-3)), *_images(), {"max_epochs": 8})


@program("LP301", accepted=("LP406", "LP504"), family="rnn", part="validation", shows=("LP202",))
def recurrence_that_explodes() -> Training:
    """Recurrent weights of the identity times 1.8, ReLU, no clipping."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.RNN(2, 48, nonlinearity="relu", batch_first=True)
            self.head = nn.Linear(48, 10)
            self.rnn.weight_hh_l0.data = 1.8 * torch.eye(48)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x.reshape(len(x), 32, 2))[0][:, -1])

    return Training(Learner(Reader(), optimizer=sgd(0.01)), *_images(), {"max_epochs": 6})


@program("LP505", "LP504", accepted=("LP304",))
def weights_of_zero() -> Training:
    """All weights start at zero."""
    net = _deep(2, nn.ReLU)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    return Training(Learner(net, optimizer=sgd(0.1)), *_digits(), {"max_epochs": 8})


@program("LP505", "LP504", family="cnn", part="validation")
def constant_weights() -> Training:
    """Every weight starts at 0.01: all units of a layer stay the same."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 32), nn.ReLU(),
        nn.Linear(32, 10),
    )  # fmt: skip
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.01)
    return Training(Learner(net, optimizer=sgd(0.05)), *_images(), {"max_epochs": 8})


@program("LP504", "LP706", accepted=("LP406", "LP301"), part="validation")
def weights_of_standard_deviation_one() -> Training:
    """Weights drawn by torch.randn, without a factor."""
    net = _deep(3, nn.ReLU, 128)
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.weight.data = torch.randn_like(layer.weight)
    return Training(Learner(net, optimizer=sgd(0.05)), *_digits(), {"max_epochs": 8})


@program("LP501", "LP406", accepted=("LP304",))
def rectifiers_that_died() -> Training:
    """Biases of −3 before every ReLU."""
    net = _deep(4, nn.ReLU, 64)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -3.0)
    return Training(Learner(net, optimizer=adam()), *_digits(), {"max_epochs": 8})


@program("LP601", family="cnn", part="validation", shows=("LP401", "LP607"))
def batches_of_two() -> Training:
    """Batch norm behind a global pooling, on batches of two."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.BatchNorm1d(16), nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    images, labels = data.digits()
    train, validation = data.loaders(images[:500] / 16, labels[:500], batch_size=2)
    return Training(Learner(net, optimizer=sgd(0.01)), train, validation, {"max_epochs": 2})


@program("LP604", "LP602", family="cnn", part="validation")
def momentum_of_another_framework() -> Training:
    """Batch norm with momentum 0.001: the statistics never arrive, validation is wild."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16, momentum=0.0001), nn.ReLU(),
        nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16, momentum=0.0001), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 16, 10),
    )  # fmt: skip
    images, labels = data.digits()
    train, validation = data.loaders(images, labels)
    return Training(Learner(net, optimizer=adam()), train, validation, {"max_epochs": 6})


@program("LP608", family="mlp", data="diabetes", part="validation")
def normalized_output() -> Training:
    """Batch norm without scale behind the last layer of a regression with a mean of 5."""
    x, y = data.diabetes()
    train, validation = data.loaders(x * 20, 5 + 2 * (y - y.mean()) / y.std(), batch_size=32)
    net = nn.Sequential(
        nn.Linear(10, 32),
        nn.ReLU(),
        nn.Linear(32, 1),
        nn.BatchNorm1d(1, affine=False),
        nn.Flatten(0),
    )
    return Training(Learner(net, F.mse_loss, adam(1e-2)), train, validation, {"max_epochs": 20})


@program("LP806", accepted=("LP401",), family="mlp")
def nearly_all_units_dropped() -> Training:
    """Dropout of 0.98 for a keep probability of 0.98."""
    net = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.98), nn.Linear(64, 64), nn.ReLU(),
        nn.Dropout(0.98), nn.Linear(64, 10),
    )  # fmt: skip
    return Training(Learner(net, optimizer=adam()), *_digits(), {"max_epochs": 8})


@program("LP806", "LP606", family="cnn", data="photographs", part="validation")
def nearly_all_channels_dropped() -> Training:
    """Dropout2d of 0.95 after each convolution."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Dropout2d(0.95), nn.Conv2d(16, 16, 3), nn.ReLU(),
        nn.Dropout2d(0.95), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )  # fmt: skip
    patches, labels = data.photographs()
    train, validation = data.loaders(patches / 127.5 - 1, labels)
    return Training(Learner(net, optimizer=adam()), train, validation, {"max_epochs": 10})
