"""Sick: batch normalization, and what comes before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, sgd
from tests.faults.program import Training, program


def _images(batch_size: int = 32, raw: bool = False) -> Any:
    images, labels = data.digits()
    return data.loaders(images if raw else images / 16, labels, batch_size=batch_size)


def _cancer(batch_size: int = 32) -> Any:
    x, y = data.breast_cancer()
    return data.loaders(data.standardized(x), y, batch_size=batch_size)


def _normed(channels: int, outputs: int, size: int, **settings: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, **settings), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16, **settings), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * (size // 2) ** 2, outputs),
    )  # fmt: skip


def _normed_perceptron(inputs: int, outputs: int, **settings: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 32, bias=False), nn.BatchNorm1d(32, **settings), nn.ReLU(),
        nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32, **settings), nn.ReLU(),
        nn.Linear(32, outputs),
    )  # fmt: skip


@program("LP601", data="wine", part="validation")
def one_sample_is_left_over() -> Training:
    """The last batch of an epoch holds one sample, of which batch norm makes nothing."""
    x, y = data.wine()
    train, validation = data.loaders(data.standardized(x), y, batch_size=19)
    module = Learner(_normed_perceptron(13, 3), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 6})


@program("LP603", "LP902", family="cnn")
def frozen_statistics_of_a_new_network() -> Training:
    """A recipe for fine-tuning puts batch norm into evaluation mode; nothing was pretrained."""

    class Tuned(Learner):
        def on_train_epoch_start(self) -> None:
            for layer in self.net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()

    module = Tuned(_normed(1, 10, 8), optimizer=sgd(0.2))
    return Training(module, *_images(raw=True), {"max_epochs": 6})


@program("LP603", "LP902", accepted=("LP101",), data="wine", part="validation")
def frozen_statistics_of_raw_columns() -> Training:
    """Batch norm is trusted to scale raw columns, and train(False) keeps it from doing so."""

    class Tuned(Learner):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            for layer in self.net:
                if isinstance(layer, nn.BatchNorm1d):
                    layer.train(False)

    x, y = data.wine()
    train, validation = data.loaders(x, y, batch_size=16)
    net = nn.Sequential(nn.BatchNorm1d(13), *_normed_perceptron(13, 3))
    return Training(Tuned(net, optimizer=sgd(0.05)), train, validation, {"max_epochs": 10})


@program("LP604", "LP602", data="breast-cancer")
def momentum_switched_off() -> Training:
    """momentum=0 to switch off averaging: the running statistics are never updated."""
    x, y = data.breast_cancer()
    train, validation = data.loaders(4 + 3 * data.standardized(x), y)
    module = Learner(_normed_perceptron(30, 2, momentum=0.0), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 8})


@program("LP605", "LP102", data="breast-cancer", accepted=("LP207", "LP602"))
def bad_batches_skipped() -> Training:
    """Losses that are NaN are skipped, but batch norm has seen those batches."""

    class Skipping(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if torch.isnan(loss) else loss

    x, y = data.breast_cancer()
    x = data.standardized(x)
    x[5, 3] = float("nan")
    train, validation = data.loaders(x, y)
    module = Skipping(_normed_perceptron(30, 2), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 6})


@program("LP605", "LP102", "LP207", family="cnn", data="photographs", part="validation")
def logarithm_of_black_pixels() -> Training:
    """The logarithm of brightness is −inf where a pixel is black, and such losses are skipped."""

    class Skipping(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
            x, y = batch
            loss = F.cross_entropy(self(x), y)
            return loss if torch.isfinite(loss) else None

    patches, labels = data.photographs()
    bright = patches.float().clamp_min(1)
    bright[11, :, 3, 3] = 0
    train, validation = data.loaders(torch.log(bright), labels)
    module = Skipping(_normed(3, 2, 16), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 4})


@program(shows=("LP606",))
def dropout_before_norm() -> Training:
    """Dropout before batch norm: in evaluation its variance is another, though by little here."""
    train, validation = _images()
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(64),
        nn.Linear(64, 10),
    )  # fmt: skip
    module = Learner(net, optimizer=adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 6}, lambda: accuracy(module, validation) > 0.8
    )


@program(shows=("LP606",), family="cnn", part="validation")
def channels_dropped_before_norm() -> Training:
    """A half of the channels is dropped before each batch norm, and the task is easy enough."""
    train, validation = _images()
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.5), nn.BatchNorm2d(32),
        nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.5),
        nn.BatchNorm2d(32), nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip
    module = Learner(net, optimizer=adam())
    return Training(
        module, train, validation, {"max_epochs": 4}, lambda: accuracy(module, validation) > 0.8
    )


@program("LP608", family="cnn", shows=("LP607",))
def one_norm_in_two_places() -> Training:
    """One batch norm is defined and used after every convolution."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 8, 3, padding=1)
            self.more = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
            self.norm = nn.BatchNorm2d(8)
            self.head = nn.Linear(8 * 64, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.norm(self.first(x)))
            for layer in self.more:
                x = F.relu(self.norm(layer(x)))
            return self.head(x.flatten(1))

    return Training(Learner(Net(), optimizer=adam()), *_images(raw=True), {"max_epochs": 4})


@program("LP609", "LP806", "LP413", family="cnn")
def scales_penalized_away() -> Training:
    """An L1 penalty on the scales of batch norm, meant to prune a few, takes all of them."""
    net = _normed(1, 10, 8)

    class Slim(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            scales = [m.weight for m in self.net.modules() if isinstance(m, nn.BatchNorm2d)]
            return super().training_step(batch, batch_idx) + 5 * sum(s.abs().sum() for s in scales)

    return Training(Slim(net, optimizer=sgd(0.02)), *_images(), {"max_epochs": 8})


@program("LP609", "LP806", "LP413", data="wine", part="validation")
def scales_decayed_away() -> Training:
    """Adam's weight_decay of 3 falls on the scales of batch norm as on all weights."""
    x, y = data.wine()
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    module = Learner(_normed_perceptron(13, 3), optimizer=adam(1e-2, weight_decay=3.0))
    return Training(module, train, validation, {"max_epochs": 25})


@program("LP608", "LP602", data="text", family="rnn", part="validation")
def norm_behind_the_scores() -> Training:
    """Batch norm without scale behind the scores of a classifier of many classes."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn = nn.Embedding(128, 32), nn.GRU(32, 48, batch_first=True)
            self.head, self.norm = nn.Linear(48, 128), nn.BatchNorm1d(128, affine=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.head(self.rnn(self.embed(x))[0][:, -1]))

    x, y = data.text()
    train = DataLoader(TensorDataset(x[:1200], y[:1200, -1]), 64, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[1200:], y[1200:, -1]), 128)
    return Training(Learner(Model(), optimizer=adam(3e-3)), train, validation, {"max_epochs": 6})
