"""Sick: faults that people report in forums and issues, labelled before they were run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.program import Training, program

EPOCHS = {"max_epochs": 8}


def _digits(*, flat: bool = True, scale: float = 16.0, batch_size: int = 32) -> Any:
    images, labels = data.digits()
    x = (images.flatten(1) if flat else images) / scale
    return data.loaders(x, labels, batch_size=batch_size)


def _tumours() -> Any:
    x, y = data.breast_cancer()
    return data.loaders((x - x.min(0).values) / (x.max(0).values - x.min(0).values), y)


def _mlp(outputs: int = 10, inputs: int = 64, hidden: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


@program("LP702", "LP705", accepted=("LP101", "LP406", "LP501"))
def one_layer_and_a_relu() -> Training:
    """The scores of a single layer go through a ReLU before cross-entropy, at a rate of 0.02."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.l1 = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.l1(x.view(x.size(0), -1)))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self(x), y)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.02)

    return Training(Net(), _digits(flat=False)[0], None, EPOCHS)


@program("LP702", "LP707", accepted=("LP304", "LP501"), data="breast-cancer", part="validation")
def softmax_of_a_single_score() -> Training:
    """A softmax over the one output of a binary classifier is 1 for every sample."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy(torch.softmax(said, dim=1).squeeze(1), y.float())

    return Training(Learner(_mlp(1, 30), loss), *_tumours(), {"max_epochs": 15})


@program("LP105", data="breast-cancer", part="validation")
def one_output_for_two_classes() -> Training:
    """Cross-entropy of a single output, with labels 0 and 1."""
    return Training(Learner(_mlp(1, 30)), *_tumours(), {"max_epochs": 15})


@program("LP101", family="cnn", part="validation")
def scaled_twice() -> Training:
    """The images were divided by 255 when loaded and once more in the transform."""
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    pair = _digits(flat=False, scale=16.0 * 255 * 255)
    return Training(Learner(net, optimizer=sgd(0.01)), *pair, EPOCHS)


@program("LP410", family="cnn", part="validation")
def head_replaced_after_the_optimizer_was_made() -> Training:
    """The optimizer is made in ``__init__``, then the head is replaced for ten classes."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten())
            self.head = nn.Linear(288, 1000)
            self.optimizer = torch.optim.Adam(self.head.parameters(), lr=1e-3)
            self.head = nn.Linear(288, 10)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self.head(self.body(x)), y)

        def configure_optimizers(self) -> Any:
            return self.optimizer

    return Training(Net(), _digits(flat=False)[0], None, EPOCHS)


@program("LP407", data="breast-cancer", part="validation")
def few_samples_and_tiny_steps() -> Training:
    """Plain descent at 1e-4 on sixty samples between 0 and 1."""
    x, y = data.breast_cancer()
    x = (x - x.min(0).values) / (x.max(0).values - x.min(0).values)
    net = nn.Sequential(
        nn.Linear(30, 60), nn.ReLU(), nn.Linear(60, 100), nn.ReLU(), nn.Linear(100, 2)
    )
    for layer in (net[0], net[2], net[4]):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    pair = data.loaders(x[:80], y[:80], batch_size=8)
    return Training(Learner(net, optimizer=sgd(1e-4)), *pair, {"max_epochs": 40})


@program("LP409", accepted=("LP407",))
def one_cycle_by_epochs() -> Training:
    """OneCycleLR was planned over all batches, but Lightning steps it once an epoch."""
    module = Learner(
        _mlp(),
        optimizer=sgd(0.01),
        scheduler=lambda one: lr_scheduler.OneCycleLR(one, 0.05, epochs=8, steps_per_epoch=43),
    )
    return Training(module, *_digits(), EPOCHS)


@program("LP708", family="rnn", part="validation")
def rows_viewed_as_time() -> Training:
    """``view`` is used where time and batch should have been transposed for an LSTM."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 48), nn.Linear(48, 10)

        def forward(self, x: Tensor) -> Tensor:
            n = x.size(0)
            return self.head(self.rnn(x.squeeze(1).view(8, n, 8))[0][-1])

    return Training(Learner(Rows()), *_digits(flat=False), EPOCHS)


@program("LP708", accepted=("LP903",), family="transformer", part="validation")
def attention_without_a_dimension() -> Training:
    """Attention by hand calls ``F.softmax`` without a dimension; torch takes the samples."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(8, 32), nn.Linear(8, 32), nn.Linear(8, 32)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = x.squeeze(1)
            scores = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(32)
            return self.head((F.softmax(scores) @ self.v(x)).mean(1))

    return Training(Learner(Attention()), *_digits(flat=False), EPOCHS)


@program("LP305", accepted=("LP709", "LP304"), part="validation")
def predicted_class_in_the_loss() -> Training:
    """The predicted class itself is compared, and backward is made to run."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        predicted = torch.argmax(said, dim=1).float()
        return F.mse_loss(predicted, y.float()).requires_grad_()

    return Training(Learner(_mlp(), loss), *_digits(), EPOCHS)


@program("LP105", "LP705", "LP702", accepted=("LP110",), family="segmentation", part="validation")
def masks_of_255() -> Training:
    """Masks were read as images, 0 and 255, and go into binary cross-entropy."""
    images, _ = data.digits()
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    pair = data.loaders(images / 16, (images > 8).float() * 255)
    return Training(Learner(net, F.binary_cross_entropy_with_logits), *pair, EPOCHS)


@program("LP601", accepted=("LP602",), part="validation")
def batches_of_two_with_batch_norm() -> Training:
    """Memory was short, so the batch was made small: two samples, in three batch norms."""
    net = nn.Sequential(
        nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 10), nn.BatchNorm1d(10),
    )  # fmt: skip
    images, labels = data.digits()
    pair = data.loaders(images.flatten(1)[:600] / 16, labels[:600], batch_size=2)
    return Training(Learner(net), *pair, {"max_epochs": 4})


@program("LP411", family="transformer")
def frozen_encoder_that_was_never_trained() -> Training:
    """The encoder was frozen for fine-tuning, but its weights were not loaded."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rise = nn.Linear(8, 32)
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(32, 10)
            for parameter in [*self.rise.parameters(), *self.encoder.parameters()]:
                parameter.requires_grad = False

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(self.rise(x.squeeze(1))).mean(1))

    return Training(Learner(Rows(), optimizer=adam(3e-4)), *_digits(flat=False), EPOCHS)


@program(
    "LP207", "LP204", accepted=("LP201", "LP202", "LP203", "LP101", "LP406"), part="validation"
)
def logarithm_of_softmax_by_hand() -> Training:
    """Cross-entropy by hand takes the logarithm of a softmax that reaches zero."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        p = said.exp() / said.exp().sum(1, keepdim=True)
        return -(F.one_hot(y, 10) * torch.log(p)).sum(1).mean()

    return Training(Learner(_mlp(), loss, sgd(0.1)), *_digits(scale=1 / 16), EPOCHS)


@program(
    "LP207", "LP204", "LP102", accepted=("LP201", "LP202", "LP203", "LP605"), part="validation"
)
def standardized_by_a_spread_of_zero() -> Training:
    """Each batch is standardized in the step, and some pixels are always the same."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            x = (x - x.mean(0)) / x.std(0)
            return F.cross_entropy(self(x), y)

    return Training(Net(_mlp()), *_digits(), EPOCHS)


@program("LP702", part="validation")
def divergence_of_plain_probabilities() -> Training:
    """``kl_div`` wants logarithms for its input; it is given a softmax."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        wanted = F.one_hot(y, 10).float() * 0.9 + 0.01
        return F.kl_div(said.softmax(1), wanted, reduction="batchmean")

    return Training(Learner(_mlp(), loss), *_digits(), EPOCHS)


@program("LP505", "LP304", accepted=("LP504",), family="cnn", part="validation")
def everything_set_to_zero() -> Training:
    """All parameters are filled with zeros before training, to be reproducible."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 32), nn.ReLU(),
        nn.Linear(32, 10),
    )  # fmt: skip
    for parameter in net.parameters():
        parameter.data.fill_(0.0)
    return Training(Learner(net), *_digits(flat=False), EPOCHS)


@program("LP702", "LP705", family="rnn")
def scores_squeezed_by_tanh() -> Training:
    """The scores of a recurrent classifier end in tanh: none is ever far above another."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(8, 48, batch_first=True), nn.Linear(48, 10)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.head(self.rnn(x.squeeze(1))[0][:, -1]))

    return Training(Learner(Rows(), optimizer=adam(3e-3)), *_digits(flat=False), EPOCHS)


@program("LP407", accepted=("LP405", "LP704"), data="diabetes", part="validation")
def divided_by_the_data_set() -> Training:
    """The loss is divided by the size of the data set, and plain descent hardly moves."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(said.squeeze(1), y) / 331

    x, y = data.diabetes()
    pair = data.loaders(data.standardized(x), (y - y.mean()) / y.std())
    return Training(Learner(_mlp(1, 10, 32), loss, sgd(0.01)), *pair, {"max_epochs": 20})


@program("LP805", "LP302", "LP504", accepted=("LP407",), part="validation")
def thirty_layers_in_a_row() -> Training:
    """Thirty plain layers with default weights: the deeper the better."""
    layers = [layer for _ in range(30) for layer in (nn.Linear(64, 64), nn.ReLU())]
    module = Learner(nn.Sequential(*layers, nn.Linear(64, 10)), optimizer=sgd(0.01))
    return Training(module, *_digits(), EPOCHS)
