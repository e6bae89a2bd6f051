"""Sick: activations and optimizers swapped for others, as a search for mutants would do it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, sgd
from tests.faults.program import Training, program

EPOCHS = {"max_epochs": 8}


def _digits(*, flat: bool = True) -> Any:
    images, labels = data.digits()
    return data.loaders((images.flatten(1) if flat else images) / 16, labels)


def _mlp(activation: type[nn.Module], *last: nn.Module) -> nn.Sequential:
    hidden = [activation(), nn.Linear(64, 64), activation()]
    return nn.Sequential(nn.Linear(64, 64), *hidden, nn.Linear(64, 10), *last)


class Shares(nn.Module):
    """A softmax over the units or channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(1)


class Steps(nn.Module):
    """One where a unit is above zero: no gradient goes through it."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).float()


@program("LP506", accepted=("LP302",))
def softmax_for_every_activation() -> Training:
    """Each activation of a perceptron is a softmax."""
    return Training(Learner(_mlp(Shares), optimizer=sgd(0.1)), *_digits(), EPOCHS)


@program("LP506", accepted=("LP302",), family="cnn")
def softmax_over_the_channels() -> Training:
    """Each activation of a convolutional network is a softmax over the channels."""
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.Softmax(1), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.Softmax(1), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 64), nn.Softmax(1), nn.Linear(64, 10)),
    )
    return Training(Learner(net, optimizer=adam(1e-3)), *_digits(flat=False), EPOCHS)


@program("LP407", shows=("LP401",))
def adagrad_at_a_ten_thousandth() -> Training:
    """Steps that were short at first, and shrink as Adagrad goes on."""
    module = Learner(_mlp(nn.ReLU), optimizer=lambda p: torch.optim.Adagrad(p, lr=1e-4))
    return Training(module, *_digits(), EPOCHS)


@program("LP710")
def cosine_made_small() -> Training:
    """The cosine of probabilities and one-hot targets is minimized."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cosine_similarity(said, F.one_hot(y, 10).float()).mean()

    net = _mlp(nn.ReLU, nn.Softmax(1))
    return Training(Learner(net, loss, adam()), *_digits(), EPOCHS)


@program(shows=("LP304",))
def steps_for_an_activation() -> Training:
    """A layer behind which a comparison cuts the gradient off; what follows learns without it."""
    net = nn.Sequential(nn.Linear(64, 128), Steps(), nn.Linear(128, 10))
    module, (train, validation) = Learner(net, optimizer=adam(3e-3)), _digits()
    return Training(module, train, validation, EPOCHS, lambda: accuracy(module, validation) > 0.7)
