"""Sick: more losses and outputs that do not fit each other, written after the rules were."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.program import Training, program

EPOCHS = {"max_epochs": 8}


def _digits(targets: Any = None, *, flat: bool = True) -> Any:
    images, labels = data.digits()
    x = images.flatten(1) / 16 if flat else images / 16
    return data.loaders(x, labels if targets is None else targets(x, labels))


def _mlp(outputs: int = 10, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs), *last)


def _bits(_: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([(labels >> bit) & 1 for bit in range(4)], dim=1).float()


def _diabetes() -> Any:
    x, y = data.diabetes()
    return data.loaders(data.standardized(x), (y - y.mean()) / y.std())


@program("LP701", family="cnn", part="validation")
def probabilities_into_a_weighted_loss() -> Training:
    """A softmax ends the network, and the functional loss weighs the classes."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said, y, weight=torch.linspace(0.5, 1.5, 10))

    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10), nn.Softmax(dim=-1)
    )
    return Training(Learner(net, loss), *_digits(flat=False), EPOCHS)


@program("LP701", part="validation")
def probabilities_against_one_hot_targets() -> Training:
    """One-hot targets as in Keras, and with them the softmax that Keras wants."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return nn.CrossEntropyLoss()(said.softmax(dim=1), F.one_hot(y, 10).float())

    return Training(Learner(_mlp(), loss), *_digits(), EPOCHS)


@program("LP702", data="digits", part="validation")
def sigmoid_twice_for_several_labels() -> Training:
    """Several labels an image: a sigmoid in the network, another in the loss."""
    net = _mlp(4, nn.Sigmoid())
    module = Learner(net, F.binary_cross_entropy_with_logits)
    return Training(module, *_digits(_bits), EPOCHS)


@program("LP702", accepted=("LP402", "LP710"), part="validation")
def likelihood_of_raw_outputs() -> Training:
    """The loss wants logarithms of probabilities, the network gives any number."""
    return Training(Learner(_mlp(), F.nll_loss), *_digits(), EPOCHS)


@program("LP702", "LP705", family="rnn", part="validation")
def rectified_scores_of_rows() -> Training:
    """A ReLU behind the last layer of a recurrent classifier."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(8, 32, batch_first=True)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            said, _ = self.rnn(x.squeeze(1))
            return F.relu(self.head(said[:, -1]) - 2.0)

    return Training(Learner(Rows()), *_digits(flat=False), EPOCHS)


@program("LP703", family="mlp", data="diabetes", part="validation")
def column_against_row_in_a_huber_loss() -> Training:
    """Predictions are a column, targets a row, and the loss is robust."""
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    return Training(Learner(net, F.smooth_l1_loss), *_diabetes(), {"max_epochs": 20})


@program("LP703", family="mlp", data="diabetes", part="validation")
def column_minus_row() -> Training:
    """Predictions are a column, targets a row, and the error is squared by hand."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return torch.mean((said - y) ** 2)

    net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
    return Training(Learner(net, loss), *_diabetes(), {"max_epochs": 20})


@program("LP702", "LP705", data="diabetes", part="validation")
def positive_outputs_for_centred_targets() -> Training:
    """A ReLU ends a regression whose targets are negative half of the time."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(10, 32), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.b(torch.relu(self.a(x)))).squeeze(1)

    return Training(Learner(Net(), F.l1_loss), *_diabetes(), {"max_epochs": 20})


@program("LP705", "LP702", accepted=("LP110", "LP101"), family="autoencoder", part="validation")
def bounded_outputs_for_raw_images() -> Training:
    """An autoencoder ends in tanh, but the images count from 0 to 16."""
    images, _ = data.digits()
    flat = images.flatten(1)
    net = nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.Linear(16, 64), nn.Tanh()
    )
    return Training(Learner(net, F.mse_loss), *data.loaders(flat, flat), EPOCHS)


@program("LP705", "LP702", family="autoencoder", data="wine", part="validation")
def sigmoid_for_standardized_columns() -> Training:
    """An autoencoder of standardized columns ends in a sigmoid."""
    x = data.standardized(data.wine()[0])
    net = nn.Sequential(nn.Linear(13, 32), nn.ELU(), nn.Linear(32, 13), nn.Sigmoid())
    return Training(Learner(net, F.mse_loss), *data.loaders(x, x), {"max_epochs": 40})


@program("LP710", family="segmentation")
def overlap_made_small() -> Training:
    """The overlap of mask and prediction is returned, where one minus it was meant."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(said)
        return (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)

    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    pair = _digits(lambda x, _: (x > 0.5).float(), flat=False)
    return Training(Learner(net, loss), *pair, EPOCHS)


@program("LP305", "LP304", part="validation")
def loss_wrapped_in_a_tensor() -> Training:
    """To please an error message, the loss is wrapped in a new tensor that requires gradients."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return torch.tensor(F.cross_entropy(said, y).item(), requires_grad=True)

    return Training(Learner(_mlp(), loss), *_digits(), EPOCHS)


@program("LP304", "LP410", accepted=("LP411",), family="contrastive")
def encoder_under_no_grad() -> Training:
    """A Siamese encoder runs without gradients; only the head that compares learns."""

    class Twins(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = _mlp(16), nn.Linear(16, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            with torch.no_grad():
                code = self.encoder(x)
            apart = (code - code.roll(1, 0)).abs()
            same = (y == y.roll(1, 0)).float()
            return F.binary_cross_entropy_with_logits(self.head(apart).squeeze(1), same)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    return Training(Twins(), _digits()[0], None, EPOCHS)


@program("LP207", accepted=("LP202", "LP203", "LP201"), family="contrastive", part="validation")
def root_of_no_distance() -> Training:
    """The distance of an image to itself is among the pairs, and its root has no slope."""

    def loss(code: Tensor, y: Tensor) -> Tensor:
        apart = ((code[:, None] - code[None]) ** 2).sum(-1).sqrt()
        same = (y[:, None] == y[None]).float()
        return (same * apart**2 + (1 - same) * F.relu(1 - apart) ** 2).mean()

    return Training(Learner(_mlp(8), loss), *_digits(), EPOCHS)


@program("LP709")
def class_numbers_as_quantities() -> Training:
    """One output is pulled towards the number of the class."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(said.squeeze(1), y.float())

    return Training(Learner(_mlp(1), loss), *_digits(), EPOCHS)


@program("LP704", "LP406", family="language-model", data="text")
def sum_over_all_characters() -> Training:
    """A language model adds up the losses of all characters; the rate was meant for the mean."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(128, 32)
            self.rnn = nn.LSTM(32, 64, batch_first=True)
            self.head = nn.Linear(64, 128)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(self.table(x))[0])

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said.flatten(0, 1), y.flatten(), reduction="sum")

    return Training(Learner(Model(), loss, sgd(0.1)), *data.loaders(*data.text()), EPOCHS)


@program("LP110", data="diabetes", part="validation")
def raw_targets_with_plain_descent() -> Training:
    """The targets run to 346, the inputs are small, the rate is a usual one."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return nn.MSELoss()(said.view(-1), y)

    x, y = data.diabetes()
    net = nn.Sequential(
        nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    return Training(Learner(net, loss, adam(1e-3)), *data.loaders(x, y), {"max_epochs": 20})


@program("LP702", family="mlp")
def cosines_without_a_temperature() -> Training:
    """Classes are told apart by cosines, which differ by two at most."""

    class Cosines(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
            self.classes = nn.Parameter(torch.randn(10, 16))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.normalize(self.body(x)), F.normalize(self.classes))

    images, labels = data.digits()
    train, validation = data.loaders(images / 16, labels, batch_size=64)
    module = Learner(Cosines(), optimizer=adam(3e-3))
    return Training(module, train, validation, {"max_epochs": 12})
