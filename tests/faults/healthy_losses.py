"""Healthy: losses of every sign, scale and shape, from torch and written by hand."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, answers, explained, sgd
from tests.faults.program import Training, program


def _digits(targets: Any = None, batch_size: int = 64) -> Any:
    images, labels = data.digits()
    return data.loaders(
        images.flatten(1) / 16, labels if targets is None else targets, batch_size=batch_size
    )


def _perceptron(out: int = 10, hidden: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, out))


def _classifier(loss: Any, *, net: Any = None, epochs: int = 12, **settings: Any) -> Training:
    train, validation = _digits()
    module = Learner(net or _perceptron(), loss, **settings)
    return Training(
        module,
        train,
        validation,
        {"max_epochs": epochs},
        lambda: accuracy(module, validation) > 0.9,
    )


def focal(said: Tensor, y: Tensor) -> Tensor:
    log_p = said.log_softmax(-1).gather(1, y[:, None])
    return (-((1 - log_p.exp()) ** 2) * log_p).mean()


@program()
def focal_loss_by_hand() -> Training:
    """A focal loss, written out."""
    return _classifier(focal)


@program(part="validation")
def label_smoothing() -> Training:
    """Labels smoothed by a tenth: the loss ends well above zero."""
    return _classifier(nn.CrossEntropyLoss(label_smoothing=0.1))


@program(data="breast-cancer")
def class_weights() -> Training:
    """Tumours, the rarer class weighted more."""
    features, labels = data.breast_cancer()
    train, validation = data.loaders(data.standardized(features), labels)
    counts = labels.bincount().float()
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))
    module = Learner(net, nn.CrossEntropyLoss(weight=counts.sum() / (2 * counts)), adam(2e-3))
    return Training(
        module, train, validation, {"max_epochs": 15}, lambda: accuracy(module, validation) > 0.93
    )


@program()
def log_probabilities_into_nll() -> Training:
    """The network ends in log-softmax, and the loss is the one for it."""
    return _classifier(F.nll_loss, net=nn.Sequential(*_perceptron(), nn.LogSoftmax(dim=1)))


@program(part="validation")
def cross_entropy_by_hand() -> Training:
    """Cross-entropy written with logsumexp."""
    return _classifier(lambda said, y: (said.logsumexp(1) - said[range(len(y)), y]).mean())


@program(part="validation")
def hinge_of_many_classes() -> Training:
    """A multi-class hinge loss, zero for what is right by far."""
    return _classifier(F.multi_margin_loss)


@program()
def squared_error_of_one_hot_labels() -> Training:
    """The Brier score: squared distance of a softmax from one-hot labels."""

    def brier(said: Tensor, y: Tensor) -> Tensor:
        return (said.softmax(-1) - F.one_hot(y, 10)).square().sum(-1).mean()

    return _classifier(brier, epochs=15, optimizer=adam(2e-3))


@program()
def multi_label() -> Training:
    """Four yes-or-no questions about each digit, one of them rare."""
    _, labels = data.digits()
    asked = torch.stack([labels % 2 == 0, labels > 4, labels % 3 == 0, labels == 8], dim=1).float()
    train, validation = _digits(asked)
    module = Learner(_perceptron(4), F.binary_cross_entropy_with_logits, adam(5e-3))

    def answers_well() -> bool:
        said, y = answers(module, validation)
        return float(((said > 0).float() == y).double().mean()) > 0.93

    return Training(module, train, validation, {"max_epochs": 15}, answers_well)


@program(data="breast-cancer", part="validation")
def sigmoid_and_binary_cross_entropy() -> Training:
    """The network ends in a sigmoid, and the loss takes probabilities."""
    features, labels = data.breast_cancer()
    train, validation = data.loaders(data.standardized(features), labels.float()[:, None])
    net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
    module = Learner(net, nn.BCELoss())

    def tells_apart() -> bool:
        said, y = answers(module, validation)
        return float(((said > 0.5).float() == y).double().mean()) > 0.93

    return Training(module, train, validation, {"max_epochs": 12}, tells_apart)


def _regression(loss: Any, out: int = 1, **settings: Any) -> tuple[Learner, Any, Any]:
    features, target = data.diabetes()
    train, validation = data.loaders(
        data.standardized(features), data.standardized(target[:, None]), batch_size=32
    )
    net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, out))
    return Learner(net, loss, **settings), train, validation


@program(data="diabetes")
def huber_loss() -> Training:
    """A robust regression."""
    module, train, validation = _regression(nn.HuberLoss(), optimizer=adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: explained(module, validation) > 0.3
    )


@program(data="diabetes", part="validation")
def absolute_error() -> Training:
    """Regression by the mean absolute error."""
    module, train, validation = _regression(F.l1_loss, optimizer=adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: explained(module, validation) > 0.3
    )


@program(data="diabetes")
def gaussian_likelihood() -> Training:
    """A network that predicts mean and variance."""

    def likelihood(said: Tensor, y: Tensor) -> Tensor:
        return F.gaussian_nll_loss(said[:, :1], y, F.softplus(said[:, 1:]) + 1e-3)

    module, train, validation = _regression(likelihood, 2, optimizer=adam(3e-3))
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 20},
        lambda: bool(
            (answers(module, validation)[0][:, :1] - validation.dataset[:][1]).square().mean() < 0.7
        ),
    )


@program(data="wine")
def density_below_zero() -> Training:
    """A mixture density of a narrow quantity: the loss falls from above zero to below it."""
    features, _ = data.wine()
    x = data.standardized(features)
    target = 0.05 * (x[:, :2].sum(1, keepdim=True).tanh() + 0.1 * x[:, 2:3])
    train, validation = data.loaders(x, target, batch_size=16)
    net = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 2))

    def likelihood(said: Tensor, y: Tensor) -> Tensor:
        return -torch.distributions.Normal(said[:, :1], said[:, 1:].exp()).log_prob(y).mean()

    module = Learner(net, likelihood, adam(5e-3))
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 30, "gradient_clip_val": 5.0},
        lambda: bool(likelihood(*answers(module, validation)) < -1.0),
    )


@program(data="diabetes")
def sum_over_a_million() -> Training:
    """A squared error summed over the batch, of unscaled targets, divided by nothing: 1e6."""
    features, target = data.diabetes()
    train, validation = data.loaders(data.standardized(features), target[:, None], batch_size=64)
    net = nn.Linear(10, 1)
    nn.init.constant_(net.bias, float(target.mean()))

    def summed(said: Tensor, y: Tensor) -> Tensor:
        return (said - y).square().sum() / 2

    module = Learner(net, summed, sgd(1e-4))
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: explained(module, validation) > 0.3
    )


@program(data="diabetes", part="validation")
def tiny_loss() -> Training:
    """Targets of a thousandth: the loss is 1e-6 from the start."""
    features, target = data.diabetes()
    train, validation = data.loaders(
        data.standardized(features), 1e-3 * data.standardized(target[:, None]), batch_size=32
    )
    module = Learner(nn.Linear(10, 1), F.mse_loss, adam(3e-5))
    nn.init.zeros_(module.net.weight)
    nn.init.zeros_(module.net.bias)
    return Training(
        module, train, validation, {"max_epochs": 30}, lambda: explained(module, validation) > 0.2
    )


@program(data="photographs")
def counting_by_poisson() -> Training:
    """The number of bright pixels, by a Poisson likelihood of the log rate."""
    patches, _ = data.photographs()
    images = patches / 255
    counts = (images.mean(1) > 0.6).flatten(1).sum(1, keepdim=True).float() / 16
    train, validation = data.loaders(images - 0.5, counts)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 1)
    )
    module = Learner(net, nn.PoissonNLLLoss(log_input=True), adam(1e-2))

    def counts_well() -> bool:
        said, y = answers(module, validation)
        return float(torch.corrcoef(torch.cat([said.exp(), y], 1).T)[0, 1]) > 0.8

    return Training(module, train, validation, {"max_epochs": 15}, counts_well)


@program(family="siamese")
def triplet_loss() -> Training:
    """An embedding in which two images of one digit lie closer than two of different ones."""

    class Embedding(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = _perceptron(16)

        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(self.net(x), dim=-1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            z = self(x)
            distance = torch.cdist(z, z)
            same = y[:, None] == y[None]
            farthest = distance.masked_fill(~same, 0).amax(1)
            nearest = distance.masked_fill(same, 9).amin(1)
            return F.relu(farthest - nearest + 0.3).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=2e-3)

    train, validation = _digits()
    module = Embedding()
    return Training(
        module,
        train,
        None,
        {"max_epochs": 15},
        lambda: _nearest_is_alike(module, validation) > 0.9,
    )


def _nearest_is_alike(module: nn.Module, validation: Any) -> float:
    z, y = answers(module, validation)
    distance = torch.cdist(z, z).fill_diagonal_(math.inf)
    return float((y[distance.argmin(1)] == y).double().mean())


@program(family="contrastive", part="validation")
def contrastive_learning() -> Training:
    """Two noisy views of each image must find each other: SimCLR, without labels."""

    class Contrastive(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.projector = _perceptron(32, 128), nn.Linear(32, 16)

        def forward(self, x: Tensor) -> Tensor:
            return F.normalize(self.encoder(x), dim=-1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, _ = batch
            views = [x + 0.15 * torch.randn_like(x) for _ in range(2)]
            a, b = (F.normalize(self.projector(F.relu(self.encoder(v))), dim=-1) for v in views)
            logits = a @ b.T / 0.2
            own = torch.arange(len(x))
            loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    train, validation = _digits(batch_size=128)
    module = Contrastive()
    return Training(
        module,
        train,
        None,
        {"max_epochs": 20},
        lambda: _nearest_is_alike(module, validation) > 0.9,
    )


@program()
def two_tasks_at_once() -> Training:
    """Two heads on one body; their losses are weighted and added."""

    class TwoTasks(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
            self.digit, self.ink = nn.Linear(64, 10), nn.Linear(64, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.digit(self.body(x))

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            inner = self.body(x)
            which = F.cross_entropy(self.digit(inner), y)
            how_much = F.mse_loss(self.ink(inner).squeeze(1), x.mean(1))
            self.log_dict({"which": which, "how_much": how_much})
            return which + 5.0 * how_much

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    train, validation = _digits()
    module = TwoTasks()
    return Training(
        module, train, None, {"max_epochs": 12}, lambda: accuracy(module, validation) > 0.9
    )


@program(part="validation")
def cosines_over_a_learned_temperature() -> Training:
    """The cosines of images and classes, scaled by what is learned with them."""

    class Cosines(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
            self.classes = nn.Parameter(torch.randn(10, 16))
            self.log_scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, x: Tensor) -> Tensor:
            cosines = F.linear(F.normalize(self.body(x)), F.normalize(self.classes))
            return cosines * self.log_scale.exp()

    train, validation = _digits()
    module = Learner(Cosines(), optimizer=adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 12}, lambda: accuracy(module, validation) > 0.9
    )
