"""Sick: the steps are too long, too short, or do not follow the gradient."""

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


def _mlp(width: int = 64, depth: int = 2, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 64
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), act()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def _cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip


@program("LP406", family="cnn", part="validation", shows=("LP807",))
def adam_at_one_tenth() -> Training:
    """Adam at 0.1 where 0.001 would do: units die and the loss stays at ln 10."""
    return Training(Learner(_cnn(), optimizer=adam(0.1)), *_images(), {"max_epochs": 8})


@program("LP406", accepted=("LP501",), family="mlp")
def adam_at_a_fifth() -> Training:
    """Adam at 0.2: most units die, and the rest learns to tell some of the digits apart."""
    x, y = data.digits()
    train, validation = data.loaders(data.standardized(x.flatten(1)), y, batch_size=32)
    net = nn.Sequential(
        nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10)
    )
    return Training(Learner(net, optimizer=adam(0.2)), train, validation, {"max_epochs": 10})


@program("LP406", accepted=("LP301",), family="mlp", data="wine", shows=("LP203", "LP808"))
def sgd_at_three() -> Training:
    """SGD at 3 with momentum on wine."""
    x, y = data.wine()
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    module = Learner(net, optimizer=sgd(3.0, momentum=0.9))
    return Training(module, train, validation, {"max_epochs": 20})


@program("LP406", family="transformer", data="text")
def transformer_at_one_twentieth() -> Training:
    """A transformer with Adam at 0.05, no warm-up: it never leaves the letters' frequencies."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(128, 64)
            layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
            self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(64, 128)

        def forward(self, x: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.head(self.body(self.embed(x), mask=mask, is_causal=True))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said.flatten(0, 1), y.flatten())

    train, validation = data.loaders(*data.text(), batch_size=32)
    return Training(Learner(Model(), loss, adam(0.05)), train, validation, {"max_epochs": 4})


@program(
    "LP406",
    accepted=("LP301",),
    data="diabetes",
    part="validation",
    shows=("LP201", "LP203", "LP402"),
)
def regression_that_diverges() -> Training:
    """SGD at 1 on a regression: the loss grows until it is infinite."""
    x, y = data.diabetes()
    train, validation = data.loaders(x * 20, (y - y.mean()) / y.std(), batch_size=32)
    net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0))
    return Training(Learner(net, F.mse_loss, sgd(1.0)), train, validation, {"max_epochs": 15})


@program("LP407", family="cnn", shows=("LP807",))
def adam_at_a_millionth() -> Training:
    """Adam at 1e-7."""
    return Training(Learner(_cnn(), optimizer=adam(1e-7)), *_images(), {"max_epochs": 6})


@program("LP407", data="breast-cancer", part="validation")
def sgd_at_a_hundred_thousandth() -> Training:
    """Plain SGD at 1e-5, as copied from a paper with another loss."""
    x, y = data.breast_cancer()
    train, validation = data.loaders(data.standardized(x), y, batch_size=32)
    net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))
    return Training(Learner(net, optimizer=sgd(1e-5)), train, validation, {"max_epochs": 15})


@program("LP413", "LP806", family="cnn", part="validation")
def weights_decay_away() -> Training:
    """weight_decay 0.5 in Adam, where 5e-4 was meant."""
    return Training(
        Learner(_cnn(), optimizer=adam(1e-3, weight_decay=0.5)), *_images(), {"max_epochs": 8}
    )


@program("LP413", "LP806", data="wine")
def weights_decay_away_in_sgd() -> Training:
    """SGD with weight_decay 1."""
    x, y = data.wine()
    net = nn.Sequential(
        nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)
    )
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    module = Learner(net, optimizer=sgd(0.1, weight_decay=1.0))
    return Training(module, train, validation, {"max_epochs": 20})


@program("LP415", accepted=("LP406",), part="validation", shows=("LP404",))
def momentum_of_one() -> Training:
    """Momentum 0.999 with a learning rate meant for 0.9."""
    return Training(
        Learner(_mlp(), optimizer=sgd(0.05, momentum=1.0)), *_digits(), {"max_epochs": 8}
    )


@program("LP409", accepted=("LP408",), family="cnn")
def decayed_on_every_batch() -> Training:
    """ExponentialLR(0.9), meant for epochs, is stepped on every batch."""
    module = Learner(
        _cnn(),
        optimizer=sgd(0.01),
        scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9),
        interval="step",
    )
    return Training(module, *_images(), {"max_epochs": 10})


@program("LP409", "LP407", family="mlp", part="validation")
def one_cycle_an_epoch_at_a_time() -> Training:
    """OneCycleLR over all batches is stepped once an epoch."""
    module = Learner(
        _mlp(128),
        optimizer=sgd(1e-3),
        scheduler=lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, 0.01, total_steps=420, div_factor=1e3
        ),
    )
    return Training(module, *_digits(), {"max_epochs": 10})


@program("LP408", "LP409")
def schedule_ends_too_early() -> Training:
    """MultiStepLR has used up the rate after a few epochs of many."""
    module = Learner(
        _mlp(act=nn.Sigmoid),
        optimizer=sgd(0.01),
        scheduler=lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [1, 2, 3], gamma=0.03),
    )
    return Training(module, *_digits(), {"max_epochs": 15})


@program("LP307", part="validation")
def clipped_to_nothing() -> Training:
    """Gradients are clipped to a norm of 1e-4 under plain SGD."""
    return Training(
        Learner(_mlp(), optimizer=sgd(0.1)),
        *_digits(),
        {"max_epochs": 8, "gradient_clip_val": 1e-4},
    )


@program("LP414", "LP407", family="cnn")
def one_epoch_only() -> Training:
    """A small learning rate and two epochs: the loss is still falling at the end."""
    return Training(
        Learner(_cnn(), optimizer=adam(1e-4)), *_images(batch_size=16), {"max_epochs": 2}
    )


@program("LP414", "LP407", data="iris")
def too_few_epochs_on_iris() -> Training:
    """Four epochs of fourteen steps."""
    x, y = data.iris()
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    train, validation = data.loaders(data.standardized(x), y, batch_size=8)
    return Training(Learner(net, optimizer=adam(1e-3)), train, validation, {"max_epochs": 4})
