"""Sick: trainings whose losses stay where guessing is, all of them alike, each for its own reason.

What is recorded tells these apart badly; experiments are there for them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.networks import Attention, Rows, convolutions, perceptron
from tests.faults.program import Training, program


def _images(labels: Tensor | None = None, batch_size: int = 32) -> Any:
    images, right = data.digits()
    return data.loaders(images / 16, right if labels is None else labels, batch_size=batch_size)


def _order(number: int, seed: int = 3) -> Tensor:
    return torch.randperm(number, generator=torch.Generator().manual_seed(seed))


@program("LP106", accepted=("LP802",), family="cnn")
def labels_sorted_apart_from_images() -> Training:
    """Images were shuffled on the way, their labels were not; their epochs are few."""
    labels = data.digits()[1]
    train, validation = _images(labels[_order(len(labels))])
    module = Learner(convolutions(1, 10, 8), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 6})


@program("LP106", accepted=("LP802",), data="diabetes", part="validation")
def targets_of_other_patients() -> Training:
    """A join by row number after one table was filtered gives each patient another one's target."""
    x, y = data.diabetes()
    y = ((y - y.mean()) / y.std())[_order(len(y))]
    train, validation = data.loaders(20 * x, y, batch_size=8)
    module = Learner(perceptron(10, 1, 8), F.mse_loss, adam())
    return Training(module, train, validation, {"max_epochs": 8})


@program("LP106", accepted=("LP802", "LP801"), family="transformer", part="validation")
def labels_rolled_by_one() -> Training:
    """A loop that appends the label before it reads the image shifts all labels by one.

    The images are mixed before: as they come, ten digits in a row, each would tell the one before.
    """
    images, labels = data.digits()
    order = _order(len(labels))
    train, validation = data.loaders(images.squeeze(1)[order] / 16, labels[order].roll(1))
    module = Learner(Attention(10, 8), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 6})


@program("LP407", family="cnn")
def a_tenth_of_a_thousandth() -> Training:
    """The same network with right labels, and Adam at 1e-5."""
    module = Learner(convolutions(1, 10, 8), optimizer=adam(1e-5))
    return Training(module, *_images(), {"max_epochs": 6})


@program("LP407", family="rnn", part="validation")
def descent_too_small_for_a_recurrence() -> Training:
    """A recurrent network with plain descent at 0.003."""
    return Training(Learner(Rows(), optimizer=sgd(3e-3)), *_images(), {"max_epochs": 6})


@program("LP406", family="rnn")
def adam_too_large_for_a_recurrence() -> Training:
    """A recurrent network with Adam at 0.3: its gates are thrown to their ends."""
    return Training(Learner(Rows(), optimizer=adam(0.3)), *_images(), {"max_epochs": 6})


@program("LP406", part="validation", data="wine")
def momentum_at_a_rate_without() -> Training:
    """SGD at 0.7 with momentum 0.95, where 0.7 was found without."""
    x, y = data.wine()
    train, validation = data.loaders(data.standardized(x), y, batch_size=8)
    module = Learner(perceptron(13, 3, 64, 3), optimizer=sgd(0.7, momentum=0.95))
    return Training(module, train, validation, {"max_epochs": 12})


@program("LP707", accepted=("LP803", "LP103"), family="transformer")
def attention_to_itself_alone() -> Training:
    """A token that sums up the rest is the only one that the inverted mask lets through."""

    class Summing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.token = nn.Linear(8, 32), nn.Parameter(torch.randn(1, 1, 32))
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
            self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.cat([self.token.expand(len(x), 1, 32), self.embed(x)], 1)
            padding = torch.ones(h.shape[:2], dtype=torch.bool)
            padding[:, 0] = False
            return self.head(self.body(h, src_key_padding_mask=padding)[:, 0])

    images, labels = data.digits()
    train, validation = data.loaders(images.squeeze(1) / 16, labels)
    module = Learner(Summing(), optimizer=adam())
    return Training(module, train, validation, {"max_epochs": 6})


@program("LP707", accepted=("LP803", "LP103", "LP608"), family="cnn", part="validation")
def norm_over_a_single_pixel() -> Training:
    """Layer norm over a spatial size of one, behind the pooling, makes zeros of everything."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 16, 3)
            self.norm = nn.LayerNorm([1, 1])
            self.head = nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = F.adaptive_avg_pool2d(F.relu(self.conv(x)), 1)
            return self.head(self.norm(x).flatten(1))

    return Training(Learner(Net(), optimizer=adam()), *_images(), {"max_epochs": 6})


@program("LP707", "LP702", "LP304", accepted=("LP803", "LP701"), data="breast-cancer")
def softmax_of_one_score() -> Training:
    """A softmax over a single score is 1, whatever the score."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(torch.softmax(said, dim=1).squeeze(1), y.float())

    x, y = data.breast_cancer()
    train, validation = data.loaders(data.standardized(x), y)
    net = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 1))
    return Training(Learner(net, loss, adam()), train, validation, {"max_epochs": 10})


@program("LP708", accepted=("LP803", "LP106"), family="cnn")
def images_rolled_in_the_batch() -> Training:
    """An augmentation rolls along the batch in place of the width."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = convolutions(1, 10, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(torch.roll(x, shifts=1, dims=0))

    return Training(Learner(Net(), optimizer=adam()), *_images(), {"max_epochs": 6})


@program("LP708", accepted=("LP803", "LP106"), data="wine", part="validation")
def columns_sorted_over_the_batch() -> Training:
    """sort() without dim=1 was meant for each row, but dim=0 sorts each column over the batch."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = perceptron(13, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.sort(dim=0).values)

    x, y = data.wine()
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    return Training(Learner(Net(), optimizer=adam(3e-3)), train, validation, {"max_epochs": 12})


@program("LP802", accepted=("LP807",))
def a_plane_for_a_band() -> Training:
    """A linear model is to tell balanced images from those with more light left or right."""
    images, _ = data.digits()
    tilt = images[..., :4].sum((1, 2, 3)) - images[..., 4:].sum((1, 2, 3))
    tilt = tilt - tilt.median()
    balanced = (tilt.abs() < tilt.abs().median()).long()
    train, validation = data.loaders(data.standardized(tilt[:, None]), balanced)
    module = Learner(nn.Linear(1, 2), optimizer=adam(0.01))
    return Training(module, train, validation, {"max_epochs": 8})


@program("LP802", "LP803", accepted=("LP807",), family="cnn", data="photographs", part="validation")
def colours_averaged_away() -> Training:
    """The network averages before it looks: which way the light falls in a patch is gone."""
    patches, _ = data.photographs()
    x = patches / 127.5 - 1
    falls = (x[:, :, :8].mean((1, 2, 3)) > x[:, :, 8:].mean((1, 2, 3))).long()
    net = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2)
    )
    train, validation = data.loaders(x, falls)
    return Training(Learner(net, optimizer=adam(3e-3)), train, validation, {"max_epochs": 12})


@program("LP803", "LP106", accepted=("LP802",), family="rnn", part="validation")
def labels_drawn_anew_on_each_access() -> Training:
    """Labels are drawn at random in the step: a line of a smoke test was left in."""

    class Smoke(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, _ = batch
            y = torch.randint(0, 10, (len(x),))
            return F.cross_entropy(self(x), y)

    return Training(Smoke(Rows(), optimizer=adam()), *_images(), {"max_epochs": 6})


@program("LP704", "LP406", accepted=("LP301",), data="diabetes", part="validation")
def errors_added_up() -> Training:
    """reduction="sum" over batches of 64, at the rate that was found for the mean."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(said, y, reduction="sum")

    x, y = data.diabetes()
    train, validation = data.loaders(20 * x, (y - y.mean()) / y.std(), batch_size=64)
    return Training(
        Learner(perceptron(10, 1), loss, sgd(0.05)), train, validation, {"max_epochs": 20}
    )


@program("LP602", accepted=("LP604", "LP111"), family="cnn")
def statistics_of_a_warm_up_batch() -> Training:
    """Each step begins with a forward pass on zeros, "to warm up", and batch norm counts it."""

    class Warm(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            for _ in range(20):
                self.net(torch.zeros_like(x))
            return F.cross_entropy(self(x), y)

    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16),
        nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    images, labels = data.digits()
    train = DataLoader(TensorDataset(images[:900] / 16, labels[:900]), 32, shuffle=True)
    validation: DataLoader[Any] = DataLoader(TensorDataset(images[900:] / 16, labels[900:]), 256)
    return Training(Warm(net, optimizer=adam()), train, validation, {"max_epochs": 4})
