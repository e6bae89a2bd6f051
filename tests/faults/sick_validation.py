"""Validation that is prepared otherwise than training: one transform was given to one set only."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, explained, sgd
from tests.faults.networks import convolutions, perceptron
from tests.faults.program import Training, program


def _apart(x: Tensor, other: Tensor, y: Tensor, held_out: int) -> tuple[Any, Any]:
    """Return loaders of the first rows of ``x``, and of the last ``held_out`` ones of ``other``."""
    train = DataLoader(TensorDataset(x[:-held_out], y[:-held_out]), 32, shuffle=True)
    return train, DataLoader(TensorDataset(other[-held_out:], y[-held_out:]), 128)


@program("LP111", family="cnn", accepted=("LP602",))
def standardized_pixels_for_training_alone() -> Training:
    """The transform of the training set ends in Normalize, that of validation does not."""
    images, labels = data.digits()
    pixels = images / 16
    module = Learner(convolutions(1, 10, 8), optimizer=adam())
    loaders = _apart((pixels - pixels.mean()) / pixels.std(), pixels, labels, 400)
    return Training(module, *loaders, {"max_epochs": 6})


@program("LP111", accepted=("LP602",))
def pixels_divided_in_the_training_step() -> Training:
    """The training step divides by 16; the validation step, copied before that, does not."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self(x / 16), y)

    images, labels = data.digits()
    module = Net(perceptron(64, 10, 64), optimizer=adam())
    return Training(module, *data.loaders(images.flatten(1), labels), {"max_epochs": 8})


@program("LP111", accepted=("LP602", "LP801"))
def transposed_images_in_validation() -> Training:
    """The files of validation were written column by column, those of training row by row."""
    images, labels = data.digits()
    rows, columns = (images / 16).flatten(1), (images / 16).transpose(2, 3).flatten(1)
    module = Learner(perceptron(64, 10, 64), optimizer=adam())
    return Training(module, *_apart(rows, columns, labels, 400), {"max_epochs": 10})


@program("LP111", data="breast-cancer", accepted=("LP602",), part="validation")
def a_scaler_for_the_training_table() -> Training:
    """``fit_transform`` was called on the training table, and nothing on the other."""
    x, y = data.breast_cancer()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))
    x, y = x[order], y[order]
    module = Learner(perceptron(30, 2), optimizer=adam())
    return Training(module, *_apart(data.standardized(x), x, y, 120), {"max_epochs": 12})


@program("LP111", family="cnn", data="photographs", accepted=("LP602",), part="validation")
def pixels_from_minus_one_and_from_zero() -> Training:
    """Training pixels lie in −1 … 1, those of validation in 0 … 1."""
    patches, labels = data.photographs()
    module = Learner(convolutions(3, 2, 16), optimizer=adam(3e-3))
    loaders = _apart(patches / 127.5 - 1, patches / 255, labels, 200)
    return Training(module, *loaders, {"max_epochs": 10})


@program("LP111", family="regression", data="diabetes", accepted=("LP801",), part="validation")
def a_table_that_was_scaled_once_more() -> Training:
    """Columns are scaled up by the module's training step alone; a regression, plain descent."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.mse_loss(self(20 * x), y)

    x, y = data.diabetes()
    module = Net(perceptron(10, 1, 64, 2), F.mse_loss, sgd(0.05))
    loaders = data.loaders(x, (y - y.mean()) / y.std(), batch_size=16)
    return Training(module, *loaders, {"max_epochs": 25})


def _sorted(x: Tensor, y: Tensor) -> Any:
    order = torch.argsort(y)
    return DataLoader(TensorDataset(x[order], y[order]), 8)


@program(family="cnn")
def noise_and_shifts_for_training_alone() -> Training:
    """Training images are moved about and made noisy, those of validation are not."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            moved = torch.roll(x, int(torch.randint(-1, 2, ())), 3)
            return F.cross_entropy(self(moved + 0.3 * torch.randn_like(x)), y)

    images, labels = data.digits()
    module = Net(convolutions(1, 10, 8), optimizer=adam())
    train, held = data.loaders(images / 16, labels)
    return Training(module, train, held, {"max_epochs": 8}, lambda: accuracy(module, held) > 0.7)


@program()
def a_validation_sorted_by_class() -> Training:
    """Half of the pixels are dropped in training, and validation comes class by class."""
    images, labels = data.digits()
    x = images.flatten(1) / 16
    net = nn.Sequential(nn.Dropout(0.5), perceptron(64, 10, 64, 2))
    train = DataLoader(TensorDataset(x[:1400], labels[:1400]), 32, shuffle=True)
    module = Learner(net, optimizer=adam(3e-3))
    held = _sorted(x[1400:], labels[1400:])
    return Training(module, train, held, {"max_epochs": 15}, lambda: accuracy(module, held) > 0.8)


@program(data="wine", part="validation")
def a_validation_of_a_dozen_wines() -> Training:
    """Twelve wines are held out, and learning goes on until training knows all others by heart."""
    x, y = data.wine()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    x, y = data.standardized(x)[order], y[order]
    train = DataLoader(TensorDataset(x[:-12], y[:-12]), 16, shuffle=True)
    module = Learner(perceptron(13, 3), optimizer=adam())
    held: DataLoader[Any] = DataLoader(TensorDataset(x[-12:], y[-12:]), 4)
    return Training(module, train, held, {"max_epochs": 8}, lambda: accuracy(module, held) > 0.8)


@program(family="autoencoder", part="validation")
def a_denoiser_of_clean_validation_images() -> Training:
    """An autoencoder is given noisy images in training and clean ones in validation."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.mse_loss(self(x + 0.5 * torch.randn_like(x)), y)

    pixels = data.digits()[0].flatten(1) / 16
    module = Net(perceptron(64, 64, 128, 2), F.mse_loss, adam(3e-3))
    train, held = data.loaders(pixels, pixels)
    return Training(module, train, held, {"max_epochs": 12}, lambda: explained(module, held) > 0.5)
