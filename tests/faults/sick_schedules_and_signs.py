"""Sick: schedules at the wrong pace, signs and labels that a loss reads otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.networks import convolutions, perceptron
from tests.faults.program import Training, program


def _digits(*, flat: bool = False, batch_size: int = 32) -> Any:
    images, labels = data.digits()
    x = images.flatten(1) if flat else images
    return data.loaders(x / 16, labels, batch_size=batch_size)


@program("LP409", accepted=("LP407",), family="cnn")
def warm_up_in_steps_stepped_by_epochs() -> Training:
    """A warm-up of a thousand steps is left to Lightning, which steps it once an epoch."""

    def warm_up(optimizer: Any) -> Any:
        return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 1000))

    module = Learner(convolutions(1, 10, 8), optimizer=adam(), scheduler=warm_up)
    return Training(module, *_digits(), {"max_epochs": 8})


@program("LP409", accepted=("LP407",), part="validation")
def warm_up_of_a_far_longer_run() -> Training:
    """A warm-up of a hundred thousand steps, taken from a paper; the run has four hundred."""

    def warm_up(optimizer: Any) -> Any:
        return LinearLR(optimizer, start_factor=1e-4, total_iters=100_000)

    module = Learner(perceptron(64, 10), optimizer=adam(), scheduler=warm_up, interval="step")
    return Training(module, *_digits(flat=True), {"max_epochs": 10})


@program("LP416", accepted=("LP408", "LP405"), family="cnn", part="validation")
def plateau_of_a_loss_that_should_rise() -> Training:
    """``ReduceLROnPlateau(mode="max")`` watches a loss: each gain costs the rate a digit."""

    def plateau(optimizer: Any) -> Any:
        return ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=0)

    module = Learner(
        convolutions(1, 10, 8), optimizer=adam(), scheduler=plateau, monitor="val_loss"
    )
    return Training(module, *_digits(), {"max_epochs": 10})


@program("LP105", accepted=("LP705", "LP702"), data="breast cancer", part="validation")
def minus_one_and_one_in_binary_cross_entropy() -> Training:
    """Labels of a support vector machine, −1 and 1, are given to a binary cross-entropy."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(said.squeeze(1), 2.0 * y - 1.0)

    x, y = data.breast_cancer()
    net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 1))
    train, validation = data.loaders(data.standardized(x), y.float())
    return Training(Learner(net, loss), train, validation, {"max_epochs": 15})


@program("LP710", family="cnn", part="validation")
def log_likelihood_without_its_minus() -> Training:
    """A hand-written log-likelihood is minimized as it stands."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.log_softmax(said, 1).gather(1, y[:, None]).mean()

    return Training(Learner(convolutions(1, 10, 8), loss), *_digits(), {"max_epochs": 4})


@program("LP406", accepted=("LP501",), family="transformer")
def transformer_at_a_rate_for_nothing() -> Training:
    """Three layers of attention, and Adam at 0.02 without a warm-up."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
            self.embed, self.place = nn.Linear(8, 32), nn.Parameter(torch.zeros(8, 32))
            self.encoder, self.head = nn.TransformerEncoder(layer, 3), nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(self.embed(x.view(-1, 8, 8)) + self.place).mean(1))

    return Training(Learner(Net(), optimizer=adam(0.02)), *_digits(flat=True), {"max_epochs": 6})


@program("LP601", accepted=("LP306",))
def two_samples_to_normalize_by() -> Training:
    """The memory holds two samples at a time, and batch norm is given those."""
    net = nn.Sequential(
        nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    images, labels = data.digits()
    train, validation = data.loaders(images[:800].flatten(1) / 16, labels[:800], batch_size=2)
    return Training(Learner(net, optimizer=adam()), train, validation, {"max_epochs": 1})


@program("LP101", family="cnn")
def divided_by_255_twice() -> Training:
    """The pixels are scaled by the transform, and once more by ``training_step``."""
    images, labels = data.digits()
    train, validation = data.loaders(images / 16 / 255 / 255, labels)
    module = Learner(convolutions(1, 10, 8), optimizer=sgd(0.01, momentum=0.9))
    return Training(module, train, validation, {"max_epochs": 8})
