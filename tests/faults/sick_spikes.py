"""Sick: losses and gradients that jump, and problems that have no answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, explained
from tests.faults.networks import Attention, convolutions, perceptron
from tests.faults.program import Training, program


def _diabetes() -> tuple[Tensor, Tensor]:
    x, y = data.diabetes()
    return 20 * x, (y - y.mean()) / y.std()


@program(shows=("LP303",), family="cnn")
def corrupt_images_under_clipping() -> Training:
    """Six images hold numbers in the thousands; gradients are clipped, and no harm is done."""
    images, labels = data.digits()
    x = images / 16
    broken = x[:1348].clone()
    broken[[50, 300, 600, 900, 1100, 1300]] *= 300
    train = DataLoader(TensorDataset(broken, labels[:1348]), 16, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[1348:], labels[1348:]), 256)
    module = Learner(convolutions(1, 10, 8), optimizer=adam())
    return Training(
        module, train, validation, {"max_epochs": 5, "gradient_clip_val": 0.5},
        lambda: accuracy(module, validation) > 0.85,
    )  # fmt: skip


@program(shows=("LP303",), data="diabetes", part="validation")
def targets_in_another_unit_under_clipping() -> Training:
    """Six targets are a hundred times too large; gradients are clipped."""
    x, y = _diabetes()
    broken = y[:330].clone()
    broken[[20, 80, 140, 200, 260, 320]] *= 100
    train = DataLoader(TensorDataset(x[:330], broken), 8, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[330:], y[330:]), 128)
    module = Learner(perceptron(10, 1), F.mse_loss, adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 10, "gradient_clip_val": 1.0},
        lambda: explained(module, validation) > 0.2,
    )  # fmt: skip


@program(shows=("LP404",))
def a_shard_of_wrong_labels() -> Training:
    """The last shard of each epoch has the labels of another; the loader does not shuffle."""
    images, labels = data.digits()
    x, y = images.flatten(1) / 16, labels.clone()
    y[1200:1328] = labels[1201:1329]
    train = DataLoader(TensorDataset(x[:1328], y[:1328]), 8)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[1400:], labels[1400:]), 256)
    module = Learner(perceptron(64, 10, 64), optimizer=adam())
    return Training(
        module, train, validation, {"max_epochs": 3}, lambda: accuracy(module, validation) > 0.6
    )


@program(shows=("LP404",), family="cnn", data="photographs", part="validation")
def a_shard_with_exchanged_labels() -> Training:
    """One shard, read in a row, has the labels of the two photographs exchanged."""
    patches, labels = data.photographs()
    x, y = patches / 127.5 - 1, labels.clone()
    y[440:500] = 1 - labels[440:500]
    train = DataLoader(TensorDataset(x[:640], y[:640]), 4)
    validation: DataLoader[Any] = DataLoader(TensorDataset(x[640:], labels[640:]), 160)
    module = Learner(convolutions(3, 2, 16), optimizer=adam(3e-4))
    return Training(
        module, train, validation, {"max_epochs": 2}, lambda: accuracy(module, validation) > 0.8
    )


@program("LP406", "LP415", shows=("LP403",), data="diabetes")
def signs_of_gradients() -> Training:
    """Descent along the signs of gradients, all patients at a time: it jumps to and fro."""
    x, y = _diabetes()
    module = Learner(perceptron(10, 1, 16), F.mse_loss, adam(0.1, betas=(0.0, 0.0)))
    train = DataLoader(TensorDataset(x, y), 442)
    return Training(module, train, None, {"max_epochs": 150})


@program("LP406", "LP415", shows=("LP403",), data="iris", part="validation")
def signs_of_gradients_on_iris() -> Training:
    """The same where the width of a petal is to be told from all else."""
    x = data.standardized(data.iris()[0])
    module = Learner(perceptron(3, 1, 32), F.mse_loss, adam(0.2, betas=(0.0, 0.0)))
    train = DataLoader(TensorDataset(x[:, :3], x[:, 3]), 150)
    return Training(module, train, None, {"max_epochs": 150})


@program("LP106", "LP910", accepted=("LP802",), family="cnn")
def a_checksum_for_a_label() -> Training:
    """Whether the sum of all pixels is even: defined, and nothing that can be learned."""
    images, _ = data.digits()
    train, validation = data.loaders(images / 16, images.sum((1, 2, 3)).long() % 2)
    module = Learner(convolutions(1, 2, 8), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 6})


@program(
    "LP106", "LP910", accepted=("LP802",), family="transformer", data="text", part="validation"
)
def a_checksum_of_a_line() -> Training:
    """Whether the codes of a line add up to an even number."""
    x, _ = data.text()
    train, validation = data.loaders(x, x.sum(1) % 2)
    module = Learner(Attention(2), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 5})


@program(shows=("LP903",), data="wine", part="validation")
def two_steps_past_lightning() -> Training:
    """Manual optimization keeps its optimizer to itself, and backward with it."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = perceptron(13, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizer = self.optimizers()
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(self(batch[0]), batch[1]).backward()
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    module = Net()
    x, y = data.wine()
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    return Training(
        module, train, None, {"max_epochs": 12}, lambda: accuracy(module, validation) > 0.8
    )
