"""Sick: networks that are too weak, too deep, too sure, or stuck at the ends of their range."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.networks import convolutions, perceptron
from tests.faults.program import Training, program


def _images(batch_size: int = 32) -> Any:
    images, labels = data.digits()
    return data.loaders(images / 16, labels, batch_size=batch_size)


@program("LP802", accepted=("LP807",), data="photographs")
def a_line_for_a_band() -> Training:
    """Logistic regression on the rank of brightness is to tell medium patches from all others."""
    patches, _ = data.photographs()
    ranks = patches.float().mean((1, 2, 3)).argsort().argsort()[:, None] / len(patches) - 0.5
    medium = (ranks[:, 0].abs() < 0.25).long()
    train, validation = data.loaders(4 * ranks, medium, batch_size=16)
    module = Learner(nn.Linear(1, 2), optimizer=adam(1e-2))
    return Training(module, train, validation, {"max_epochs": 12})


@program("LP802", "LP503", accepted=("LP807", "LP106"), data="iris", part="validation")
def a_line_for_the_species_in_the_middle() -> Training:
    """One linear layer is to tell the species in the middle from those on both sides of it."""
    x, y = data.iris()
    train, validation = data.loaders(data.standardized(x)[:, [0]], (y == 1).long(), batch_size=8)
    module = Learner(nn.Linear(1, 2), optimizer=adam(1e-2))
    return Training(module, train, validation, {"max_epochs": 30})


@program("LP802", accepted=("LP807", "LP106"), data="diabetes", part="validation")
def only_the_sex_is_left() -> Training:
    """A filter on columns keeps the sex of the patients, which tells nothing of the target."""
    x, y = data.diabetes()
    train, validation = data.loaders(20 * x[:, [1]], (y - y.mean()) / y.std(), batch_size=16)
    module = Learner(perceptron(1, 1), F.mse_loss, adam(3e-3))
    return Training(module, train, validation, {"max_epochs": 15})


def _plain(layers: int, act: Any, width: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), perceptron(64, 10, width, layers, act))


@program("LP805", "LP302", "LP504", accepted=("LP407", "LP401"))
def forty_plain_layers() -> Training:
    """Forty layers one after the other, as ResNets have, without their skips."""
    return Training(
        Learner(_plain(40, nn.ReLU), optimizer=sgd(0.05)), *_images(), {"max_epochs": 6}
    )


@program("LP805", "LP302", "LP504", "LP501", family="cnn", data="photographs", part="validation")
def thirty_plain_convolutions() -> Training:
    """Twenty-four convolutions in a row."""
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(24):
        layers += [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU()]
        channels = 8
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    patches, labels = data.photographs()
    train, validation = data.loaders(patches / 127.5 - 1, labels)
    return Training(Learner(net, optimizer=sgd(0.05)), train, validation, {"max_epochs": 5})


@program("LP502", "LP504", accepted=("LP101", "LP302", "LP406"), data="breast-cancer")
def raw_columns_into_sigmoids() -> Training:
    """Weights ten times too large drive every sigmoid to its ends."""
    net = perceptron(30, 2, 32, 3, nn.Sigmoid)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=5.0)
    x, y = data.breast_cancer()
    train, validation = data.loaders(data.standardized(x), y)
    return Training(Learner(net, optimizer=sgd(0.01)), train, validation, {"max_epochs": 8})


@program("LP502", "LP101", "LP504", accepted=("LP302",), data="wine", part="validation")
def raw_wine_into_tanh() -> Training:
    """Proline in the hundreds saturates every tanh of the first layer."""
    train, validation = data.loaders(*data.wine(), batch_size=16)
    module = Learner(perceptron(13, 3, 32, 2, nn.Tanh), optimizer=sgd(0.01))
    return Training(module, train, validation, {"max_epochs": 10})


@program("LP706", "LP504", accepted=("LP406", "LP301"), family="cnn")
def scores_of_a_hundred() -> Training:
    """The last layer was initialized as if it were the first: it is sure, and wrong."""
    net = convolutions(1, 10, 8)
    head = net[-1]
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight, std=40.0)
    return Training(Learner(net, optimizer=sgd(1e-3)), *_images(), {"max_epochs": 4})


@program("LP706", "LP504", "LP406", accepted=("LP301",), data="iris", part="validation")
def scores_divided_by_a_temperature() -> Training:
    """A temperature of 0.01 divides the scores, as copied from a contrastive loss."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said / 0.01, y)

    x, y = data.iris()
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    return Training(
        Learner(perceptron(4, 3), loss, sgd(0.05)), train, validation, {"max_epochs": 15}
    )


@program("LP302", "LP502", "LP805", family="autoencoder", accepted=("LP407", "LP802"))
def deep_autoencoder_of_sigmoids() -> Training:
    """An autoencoder of eight sigmoid layers that answers with the mean image."""
    sizes = [64, 48, 32, 16, 8, 16, 32, 48]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Sigmoid()]
    net = nn.Sequential(*layers, nn.Linear(48, 64))
    images, _ = data.digits()
    pixels = images.flatten(1) / 16
    train, validation = data.loaders(pixels, pixels)
    return Training(Learner(net, F.mse_loss, sgd(0.1)), train, validation, {"max_epochs": 8})


@program("LP501", "LP406", "LP504", family="segmentation", part="validation")
def mask_that_died() -> Training:
    """A segmentation network whose ReLUs got a bias of −2 each from a checkpoint of another net."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 1, 1),
    )  # fmt: skip
    for layer in net:
        if isinstance(layer, nn.Conv2d) and layer.out_channels == 8:
            nn.init.constant_(layer.bias, -2.0)  # type: ignore[arg-type]
    images, _ = data.digits()
    train, validation = data.loaders(images / 16, (images > 8).float())
    module = Learner(net, F.binary_cross_entropy_with_logits, adam(3e-3))
    return Training(module, train, validation, {"max_epochs": 6})


@program("LP304", "LP410", "LP411", family="autoencoder", data="photographs", part="validation")
def encoder_cut_off() -> Training:
    """The code is detached before the decoder: the encoder stays as it was drawn."""

    class Coder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(768, 2), nn.Tanh())
            self.decoder = nn.Linear(2, 768)

        def forward(self, x: Tensor) -> Tensor:
            return self.decoder(self.encoder(x).detach())

    patches, _ = data.photographs()
    x = patches / 127.5 - 1
    train = DataLoader(TensorDataset(x, x.flatten(1)), 32, shuffle=True)
    return Training(Learner(Coder(), F.mse_loss, adam()), train, None, {"max_epochs": 8})


@program("LP204", "LP207", "LP102", shows=("LP201",), family="gan", accepted=("LP203",))
def logarithm_of_a_sure_critic() -> Training:
    """A generator is trained against log(1 − D) while D is certain: 1 − D is exactly 0."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 64))
            self.critic = nn.Linear(64, 1)
            nn.init.constant_(self.critic.bias, 40.0)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.critic(self.generator(x)))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return torch.log(1 - said).mean()

    images, labels = data.digits()
    train, _ = data.loaders(torch.rand_like(images).flatten(1), labels)
    return Training(Learner(Net(), loss, adam()), train, None, {"max_epochs": 2})
