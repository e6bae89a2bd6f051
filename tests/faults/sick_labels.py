"""Sick: what is asked of the data, and what the data cannot answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, explained, sgd
from tests.faults.networks import Attention, Rows, convolutions, perceptron
from tests.faults.program import Training, program


def _mixed(number: int, seed: int = 1) -> Tensor:
    return torch.randperm(number, generator=torch.Generator().manual_seed(seed))


@program("LP103", "LP707", accepted=("LP101",), family="cnn", data="photographs")
def bytes_divided_as_integers() -> Training:
    """Pixels are bytes, and // in place of / makes zeros of nearly all of them."""
    patches, labels = data.photographs()
    scaled = patches.clamp(max=254).to(torch.uint8) // 255
    train, validation = data.loaders(scaled.float(), labels)
    module = Learner(convolutions(3, 2, 16), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 8})


@program("LP103", data="wine", accepted=("LP707",), part="validation")
def every_index_gives_the_first_row() -> Training:
    """__getitem__ reads row 0 whatever the index."""

    class Wines(Dataset[Any]):
        def __init__(self, x: Tensor, y: Tensor) -> None:
            self.x, self.y = x, y

        def __len__(self) -> int:
            return len(self.y)

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return self.x[0], self.y[index]

    x, y = data.wine()
    train = DataLoader(Wines(data.standardized(x), y), 16, shuffle=True)
    return Training(Learner(perceptron(13, 3), optimizer=adam()), train, None, {"max_epochs": 12})


@program("LP104", accepted=("LP802",))
def few_ones_among_all_digits() -> Training:
    """Some ones among hundreds of other digits, told by their brightness and nothing else."""
    images, labels = data.digits()
    keep = torch.cat([(labels == 1).nonzero()[:60, 0], (labels != 1).nonzero()[:1000, 0]])
    keep = keep[_mixed(len(keep))]
    brightness = data.standardized(images.mean((1, 2, 3))[keep, None])
    train, validation = data.loaders(brightness, (labels[keep] == 1).long())
    module = Learner(perceptron(1, 2), optimizer=sgd(0.1))
    return Training(module, train, validation, {"max_epochs": 10})


@program("LP104", data="text", family="transformer", accepted=("LP802",), part="validation")
def one_letter_among_all() -> Training:
    """Whether the next character is an i, as few are; the classes are not weighted."""
    x, y = data.text()
    rare = (y[:, -1] == ord("i")).long()
    module = Learner(Attention(2), optimizer=adam())
    train, validation = data.loaders(x, rare)
    return Training(module, train, validation, {"max_epochs": 6})


@program("LP107", "LP801", family="cnn")
def three_images_of_each_digit() -> Training:
    """Thirty images, thousands of weights."""
    images, labels = data.digits()
    few = torch.cat([(labels == digit).nonzero()[:3, 0] for digit in range(10)])
    train = DataLoader(TensorDataset(images[few] / 16, labels[few]), 10, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(images[900:] / 16, labels[900:]), 256)
    module = Learner(convolutions(1, 10, 8, 16), optimizer=adam(3e-3))
    return Training(module, train, validation, {"max_epochs": 80})


@program("LP107", "LP801", data="diabetes", accepted=("LP110",), part="validation")
def forty_patients() -> Training:
    """A regression on forty patients with a network of thousands of weights."""
    x, y = data.diabetes()
    y = (y - y.mean()) / y.std()
    train = DataLoader(TensorDataset(20 * x[:40], y[:40]), 8, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(20 * x[40:], y[40:]), 256)
    module = Learner(perceptron(10, 1, 128, 2), F.mse_loss, adam(3e-3))
    return Training(module, train, validation, {"max_epochs": 80})


@program("LP108", family="rnn")
def copied_before_they_were_split() -> Training:
    """Images were doubled for balance, and only then split into training and validation."""
    images, labels = data.digits()
    twice = torch.cat([torch.arange(700), torch.arange(700)])[_mixed(1400)]
    train, validation = data.loaders(images[twice] / 16, labels[twice])
    return Training(Learner(Rows(), optimizer=adam(3e-3)), train, validation, {"max_epochs": 5})


@program("LP108", data="breast-cancer", part="validation")
def slices_that_overlap() -> Training:
    """The slices of training and validation overlap by a hundred rows."""
    x, y = data.breast_cancer()
    x = data.standardized(x)
    train = DataLoader(TensorDataset(x[:500], y[:500]), 32, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[400:], y[400:]), 64)
    return Training(
        Learner(perceptron(30, 2), optimizer=adam()), train, validation, {"max_epochs": 8}
    )


@program(shows=("LP804",), family="cnn")
def validated_on_the_easy_classes() -> Training:
    """A list of files was cut: validation holds zeros and sixes only. Training itself is sound."""
    images, labels = data.digits()
    easy = (labels == 0) | (labels == 6)
    train = DataLoader(TensorDataset(images[:1200] / 16, labels[:1200]), 32, shuffle=True)
    held = torch.arange(len(labels)) >= 1200
    validation: DataLoader[Any] = DataLoader(
        TensorDataset(images[held & easy] / 16, labels[held & easy]), 256
    )
    module = Learner(convolutions(1, 10, 8), optimizer=sgd(0.1))
    return Training(
        module, train, validation, {"max_epochs": 8}, lambda: accuracy(module, validation) > 0.9
    )


@program(shows=("LP804",), data="diabetes", part="validation")
def outliers_dropped_in_validation() -> Training:
    """Patients far from the mean were filtered out, in validation alone. Training is sound."""
    x, y = data.diabetes()
    y = (y - y.mean()) / y.std()
    held, usual = torch.arange(len(y)) >= 300, y.abs() < 0.4
    train = DataLoader(TensorDataset(20 * x[:300], y[:300]), 16, shuffle=True)
    rows = TensorDataset(20 * x[held & usual], y[held & usual])
    validation: DataLoader[Any] = DataLoader(rows, 128)
    module = Learner(perceptron(10, 1, 8), F.mse_loss, adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 8}, lambda: explained(module, train) > 0.2
    )


@program("LP803", "LP106", accepted=("LP802",), family="cnn")
def targets_mixed_without_their_inputs() -> Training:
    """Mixup permutes the labels of a batch and forgets the images."""

    class Mixed(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            y = y[torch.randperm(len(y))]
            return F.cross_entropy(self(x), y)

    images, labels = data.digits()
    train, validation = data.loaders(images / 16, labels)
    module = Mixed(convolutions(1, 10, 8), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 8})


@program("LP803", "LP106", "LP707", "LP101", accepted=("LP802",), data="wine", part="validation")
def augmented_beyond_recognition() -> Training:
    """Noise of standard deviation 50 where 0.05 was meant."""

    class Noisy(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self(x + 50 * torch.randn_like(x)), y)

    x, y = data.wine()
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    module = Noisy(perceptron(13, 3, 64), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 70})


@program("LP111", "LP602", family="cnn", data="photographs", part="validation")
def validation_in_other_units() -> Training:
    """Training pixels lie in −1 … 1, those of validation in 0 … 255."""
    patches, labels = data.photographs()
    train = DataLoader(TensorDataset(patches[:600] / 127.5 - 1, labels[:600]), 32, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(patches[600:].float(), labels[600:]), 64)
    module = Learner(convolutions(3, 2, 16), optimizer=adam(3e-3))
    return Training(module, train, validation, {"max_epochs": 8})


@program("LP709", data="wine")
def class_numbers_of_wines_as_quantities() -> Training:
    """The number of the class is fitted by a squared error through a sigmoid's range."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(said, y.float())

    x, y = data.wine()
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    net = nn.Sequential(nn.Linear(13, 16), nn.Sigmoid(), nn.Linear(16, 1), nn.Flatten(0))
    return Training(Learner(net, loss, sgd(0.01)), train, validation, {"max_epochs": 5})
