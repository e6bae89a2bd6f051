"""Sick programs as people write them, each beside its twin: the same training without the fault."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, answers, explained, sgd
from tests.faults.program import Training, program


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _digits(batch_size: int = 32) -> Any:
    images, labels = data.digits()
    return data.loaders(images.flatten(1) / 16, labels, batch_size=batch_size)


class _Values(LightningModule):
    """Values of three actions, learned from rewards and from a slow copy of themselves."""

    def __init__(self, *, squeezed: bool) -> None:
        super().__init__()
        self.squeezed = squeezed
        self.values = _mlp(4, 64, 3)
        self.slow = copy.deepcopy(self.values)

    def forward(self, state: Tensor) -> Tensor:
        return self.values(state)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        state, action, reward, after = batch
        value = self.values(state).gather(1, action[:, None])
        with torch.no_grad():
            wanted = reward + 0.5 * self.slow(after).max(1)[0]
        if batch_idx % 20 == 0:
            self.slow.load_state_dict(self.values.state_dict())
        return F.smooth_l1_loss(value.squeeze(1) if self.squeezed else value, wanted)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.values.parameters(), lr=3e-3)


def _values(*, mended: bool) -> Training:
    draw = torch.Generator().manual_seed(0)
    state, after = torch.randn(2, 2000, 4, generator=draw)
    action = torch.randint(3, (2000,), generator=draw)
    rewards = torch.stack([state[:, 0], -state[:, 1], state[:, 2] * state[:, 3]], 1)
    reward = rewards.gather(1, action[:, None])[:, 0]
    module = _Values(squeezed=mended)
    loader = DataLoader(TensorDataset(state, action, reward, after), 64, shuffle=True)

    def ranks() -> bool:
        with torch.no_grad():
            return float((module(state).argmax(1) == rewards.argmax(1)).float().mean()) > 0.7

    return Training(module, loader, None, {"max_epochs": 15}, ranks)


@program("LP703", data="synthetic")
def values_broadcast_against_their_copy() -> Training:
    """Gathered action values are a column, what the slow copy wants of them is a row."""
    return _values(mended=False)


@program(data="synthetic")
def values_beside_their_copy() -> Training:
    """Action values are squeezed before they are held against those of a slow copy."""
    return _values(mended=True)


class _Student(LightningModule):
    def __init__(self, teacher: nn.Module, *, logarithmic: bool) -> None:
        super().__init__()
        self.teacher, self.student = teacher, _mlp(64, 32, 10)
        self.logarithmic = logarithmic

    def forward(self, x: Tensor) -> Tensor:
        return self.student(x)

    def _loss(self, x: Tensor) -> Tensor:
        said, wanted = self.student(x) / 3, self.teacher(x) / 3
        given = F.log_softmax(said, 1) if self.logarithmic else F.softmax(said, 1)
        return 9 * F.kl_div(given, F.softmax(wanted, 1), reduction="batchmean")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch[0])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch[0]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.student.parameters(), lr=2e-3)


def _distilled(*, mended: bool) -> Training:
    train, validation = _digits()
    x, y = train.dataset.tensors
    teacher = _mlp(64, 128, 10)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        optimizer.step()
    module = _Student(teacher.eval().requires_grad_(False), logarithmic=mended)
    return Training(
        module, train, validation, {"max_epochs": 10}, lambda: accuracy(module, validation) > 0.85
    )


@program("LP702")
def probabilities_of_a_student() -> Training:
    """The divergence from a frozen teacher is given the student's probabilities, not their log."""
    return _distilled(mended=False)


@program()
def a_student_of_a_frozen_teacher() -> Training:
    """The divergence from a frozen teacher is given logarithms of the student's probabilities."""
    return _distilled(mended=True)


class _Transcriber(nn.Module):
    def __init__(self, *, normalized: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 6)
        self.normalized = normalized

    def forward(self, x: Tensor) -> Tensor:
        scores = self.head(self.rnn(x)[0])
        return scores.log_softmax(-1) if self.normalized else scores


def _aligned(said: Tensor, y: Tensor) -> Tensor:
    frames, letters = (torch.full((len(y),), n) for n in (said.shape[1], y.shape[1]))
    return F.ctc_loss(said.transpose(0, 1), y, frames, letters)


def _transcription(*, mended: bool) -> Training:
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(1, 6, (800, 4), generator=draw)
    sounds = F.one_hot(y, 6).float().repeat_interleave(3, 1)
    x = sounds + 0.3 * torch.randn(sounds.shape, generator=draw)
    module = Learner(_Transcriber(normalized=mended), _aligned, adam(3e-3))
    train, validation = data.loaders(x, y)

    def hears() -> bool:
        with torch.no_grad():
            return float(_aligned(module(x), y)) < 0.6

    return Training(module, train, validation, {"max_epochs": 12}, hears)


@program("LP702", family="rnn", data="synthetic")
def raw_scores_to_align() -> Training:
    """The alignment loss takes log-probabilities, and is given raw scores."""
    return _transcription(mended=False)


@program(family="rnn", data="synthetic", part="validation")
def letters_to_align() -> Training:
    """An alignment loss that is given log-probabilities, and rests at blanks for a while."""
    return _transcription(mended=True)


def _tagged(*, mended: bool) -> Training:
    images, y = data.digits()
    tags = torch.stack([y % 2 == 0, y > 4, y % 3 == 0, y < 8], 1).float()
    last: nn.Module = nn.Sigmoid() if mended else nn.Softmax(dim=1)
    module = Learner(nn.Sequential(*_mlp(64, 64, 4), last), F.binary_cross_entropy)
    train, validation = data.loaders(images.flatten(1) / 16, tags)

    def right() -> bool:
        said, wanted = answers(module, validation)
        return float(((said > 0.5) == (wanted > 0.5)).double().mean()) > 0.85

    return Training(module, train, validation, {"max_epochs": 12}, right)


@program("LP702")
def tags_that_share_a_probability() -> Training:
    """Several labels a sample are learned by binary cross-entropy from a softmax over them."""
    return _tagged(mended=False)


@program()
def tags_with_a_probability_each() -> Training:
    """Several labels a sample, a sigmoid for each of them."""
    return _tagged(mended=True)


def _halved(*, mended: bool) -> Training:
    module = Learner(
        _mlp(64, 64, 10),
        optimizer=sgd(0.1, momentum=0.9),
        scheduler=lambda optimizer: lr_scheduler.StepLR(optimizer, 10, 0.5),
        interval="epoch" if mended else "step",
    )
    train, validation = _digits()
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: accuracy(module, validation) > 0.9
    )


@program("LP409", accepted=("LP408",))
def halved_every_ten_batches() -> Training:
    """A rate that is to be halved every ten epochs is halved every ten batches; half is learned."""
    return _halved(mended=False)


@program()
def halved_every_ten_epochs() -> Training:
    """The learning rate is halved every ten epochs."""
    return _halved(mended=True)


class _Coder(LightningModule):
    """A variational autoencoder whose divergence is summed, its error summed or averaged."""

    def __init__(self, *, summed: bool) -> None:
        super().__init__()
        self.summed = summed
        self.encoder, self.decoder = _mlp(64, 64, 16), _mlp(8, 64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x).chunk(2, 1)[0]).sigmoid()

    def _loss(self, x: Tensor) -> Tensor:
        mean, logarithm = self.encoder(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * torch.exp(0.5 * logarithm)
        reduction = "sum" if self.summed else "mean"
        error = F.binary_cross_entropy(self.decoder(code).sigmoid(), x, reduction=reduction)
        return error - 0.5 * torch.sum(1 + logarithm - mean.pow(2) - logarithm.exp())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch[0])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch[0]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def _coded(*, mended: bool) -> Training:
    pixels = data.digits()[0].flatten(1) / 16
    train, validation = data.loaders(pixels, pixels)
    module = _Coder(summed=mended)
    settings = {"max_epochs": 20 if mended else 15}
    return Training(
        module, train, validation, settings, lambda: explained(module, validation) > 0.4
    )


@program("LP806", accepted=("LP706", "LP707"), family="vae")
def mean_error_beside_a_summed_divergence() -> Training:
    """The error is a mean over pixels and samples, the divergence a sum: the code is given up."""
    return _coded(mended=False)


@program(family="vae")
def sums_of_error_and_divergence() -> Training:
    """Error and divergence are both summed over the batch."""
    return _coded(mended=True)


def _seen(*, mended: bool) -> Training:
    images, y = data.digits()
    features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    features.requires_grad_(mended)
    net = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    module = Learner(net, optimizer=adam(1e-2 if mended else 1e-3))
    train, validation = data.loaders(images / 16, y)
    settings = {"max_epochs": 15 if mended else 10}
    return Training(module, train, validation, settings, lambda: accuracy(module, validation) > 0.5)


@program("LP411", family="cnn")
def frozen_at_random_and_pooled() -> Training:
    """Convolutions that were never trained are frozen, and pooled to a few numbers."""
    return _seen(mended=False)


@program(family="cnn")
def trained_and_pooled() -> Training:
    """Few convolutions, pooled to eight numbers, learn slowly and well."""
    return _seen(mended=True)


def _copied(*, mended: bool) -> Training:
    pixels = data.digits()[0].flatten(1) / 16
    loss = nn.MSELoss(reduction="mean" if mended else "sum")
    rate = 1.0 if mended else 0.02
    module = Learner(_mlp(64, 32, 64), loss, sgd(rate, momentum=0.9))
    train, validation = data.loaders(pixels, pixels, batch_size=64)
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: explained(module, validation) > 0.4
    )


@program("LP704", "LP406", accepted=("LP501",), family="autoencoder")
def summed_until_units_die() -> Training:
    """Squared errors of a batch are summed, and the first steps kill every rectifier."""
    return _copied(mended=False)


@program(family="autoencoder")
def averaged_at_a_rate_of_one() -> Training:
    """A mean of squared errors over pixels is small, and so its rate is large."""
    return _copied(mended=True)


def _by_hand(said: Tensor, y: Tensor) -> Tensor:
    probability = torch.sigmoid(said[:, 0])
    right, wrong = torch.log(probability), torch.log(1 - probability)
    return -(y * right + (1 - y) * wrong).mean()


def _with_logits(said: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(said[:, 0], y)


def _tumours(*, mended: bool) -> Training:
    x, y = data.breast_cancer()
    module = Learner(_mlp(30, 64, 1), _with_logits if mended else _by_hand, adam(1e-2))
    train, validation = data.loaders(data.standardized(x), y.float())

    def right() -> bool:
        said, wanted = answers(module, validation)
        return float(((said[:, 0] > 0) == (wanted > 0.5)).double().mean()) > 0.9

    return Training(module, train, validation, {"max_epochs": 8}, right)


@program("LP207", "LP204", accepted=("LP406",), shows=("LP201",), data="breast-cancer")
def logarithm_of_a_sure_sigmoid() -> Training:
    """A cross-entropy by hand takes the logarithm of what a sigmoid has rounded to 0."""
    return _tumours(mended=False)


@program(data="breast-cancer", part="validation")
def surer_and_surer_of_logits() -> Training:
    """A classifier of logits that gets as sure as it can be of what it has learned."""
    return _tumours(mended=True)


class _Pairs(LightningModule):
    """Pairs of images of one digit are to point the same way, others away from each other."""

    def __init__(self, *, signs: bool) -> None:
        super().__init__()
        self.net, self.signs = _mlp(64, 64, 16), signs

    def forward(self, pair: Tensor) -> Tensor:
        return F.cosine_similarity(self.net(pair[:, 0]), self.net(pair[:, 1]))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        pair, alike = batch
        label = 2 * alike - 1 if self.signs else alike
        return F.cosine_embedding_loss(self.net(pair[:, 0]), self.net(pair[:, 1]), label)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def _paired(*, mended: bool) -> Training:
    x, y = data.digits()[0].flatten(1) / 16, data.digits()[1]
    one, other = torch.randint(1348, (2, 2500), generator=torch.Generator().manual_seed(0))
    alike = (y[one] == y[other]).float()
    train, validation = data.loaders(torch.stack([x[one], x[other]], 1), alike)
    module = _Pairs(signs=mended)

    def tells() -> bool:
        said, alike = answers(module, validation)
        return float(said[alike > 0.5].mean() - said[alike < 0.5].mean()) > 0.4

    return Training(module, train, None, {"max_epochs": 10}, tells)


@program("LP105", family="siamese")
def zeros_for_the_cosine() -> Training:
    """The cosine loss reads -1 for unlike pairs, and is given 0: those count for nothing."""
    return _paired(mended=False)


@program(family="siamese", part="validation")
def signs_for_the_cosine() -> Training:
    """Pairs that are alike have 1, others -1; nine of ten are unlike."""
    return _paired(mended=True)
