"""Healthy: losses whose curve looks sick, and is not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, answers, sgd
from tests.faults.program import Training, program


def _digits(batch_size: int = 32) -> Any:
    images, labels = data.digits()
    return data.loaders(images.flatten(1) / 16, labels, batch_size=batch_size)


def _classifier(net: nn.Module, epochs: int, least: float = 0.9, **settings: Any) -> Training:
    train, validation = _digits()
    module = Learner(net, **settings)
    return Training(
        module,
        train,
        validation,
        {"max_epochs": epochs},
        lambda: accuracy(module, validation) > least,
    )


@program()
def heavy_dropout() -> Training:
    """Half of all units dropped: training looks worse than validation."""
    net = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 128), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip
    return _classifier(net, 12)


def _noisy(labels: Tensor, share: float, classes: int) -> Tensor:
    """Return labels of which a share is drawn anew."""
    generator = torch.Generator().manual_seed(2)
    wrong = torch.rand(len(labels), generator=generator) < share
    return torch.where(wrong, torch.randint(classes, labels.shape, generator=generator), labels)


@program(part="validation")
def wrong_labels() -> Training:
    """A tenth of the labels is wrong: the loss ends far above zero."""
    images, labels = data.digits()
    train, _ = data.loaders(images.flatten(1) / 16, _noisy(labels, 0.1, 10), batch_size=64)
    _, clean = _digits()
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    module = Learner(net, optimizer=adam(2e-3, weight_decay=1e-4))
    return Training(module, train, None, {"max_epochs": 15}, lambda: accuracy(module, clean) > 0.88)


@program(part="validation")
def half_of_the_labels_wrong() -> Training:
    """Four labels in ten are drawn anew, and the network still learns what is true."""
    images, labels = data.digits()
    noisy = _noisy(labels, 0.4, 10)
    train, validation = data.loaders(images.flatten(1) / 16, noisy, batch_size=64)
    _, clean = _digits()
    module = Learner(nn.Linear(64, 10), optimizer=sgd(0.2))
    return Training(
        module, train, validation, {"max_epochs": 15}, lambda: accuracy(module, clean) > 0.85
    )


@program()
def plateau_that_ends() -> Training:
    """Five layers of tanh at a small rate: flat at first, then the loss falls."""
    layers: list[nn.Module] = []
    for size in (64, 32, 32, 32, 32):
        layers += [nn.Linear(size, 32), nn.Tanh()]
    return _classifier(nn.Sequential(*layers, nn.Linear(32, 10)), 40, 0.85, optimizer=sgd(0.05))


class Parity(nn.Module):
    """A perceptron on bits."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(bits, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(1)


@program(data="synthetic")
def parity_of_three_bits() -> Training:
    """The parity of three bits among ten: at chance for long, then all at once."""
    generator = torch.Generator().manual_seed(4)
    bits = torch.randint(2, (3000, 10), generator=generator).float()
    odd = bits[:, :3].sum(1) % 2
    train, validation = data.loaders(2 * bits - 1, odd, batch_size=64)
    module = Learner(Parity(10), F.binary_cross_entropy_with_logits, sgd(0.1))

    def knows() -> bool:
        said, y = answers(module, validation)
        return float(((said > 0).float() == y).double().mean()) > 0.95

    return Training(module, train, validation, {"max_epochs": 40}, knows)


@program(data="synthetic")
def late_insight() -> Training:
    """Addition modulo 23 is memorized first and understood later, as in grokking."""
    pairs = torch.cartesian_prod(torch.arange(23), torch.arange(23))
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))]
    train, validation = data.loaders(pairs, pairs.sum(1) % 23, batch_size=512, held_out=0.3)

    class Adder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(23, 64)
            self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 23))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(self.embed(x).sum(1))

    module = Learner(Adder(), optimizer=lambda p: torch.optim.AdamW(p, lr=5e-3, weight_decay=1.0))
    return Training(
        module, train, validation, {"max_epochs": 800}, lambda: accuracy(module, validation) > 0.9
    )


@program(data="wine")
def perfect_fit_that_stays() -> Training:
    """The training set is fitted perfectly early; the loss stays at its floor."""
    features, labels = data.wine()
    train, validation = data.loaders(data.standardized(features), labels, batch_size=16)
    net = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 3))
    module = Learner(net, optimizer=sgd(0.1, momentum=0.9))
    return Training(
        module, train, validation, {"max_epochs": 60}, lambda: accuracy(module, validation) > 0.9
    )


@program(data="synthetic", part="validation")
def perfect_fit_of_a_line() -> Training:
    """A linear law without noise is found exactly: the loss ends at rounding errors."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(512, 6, generator=generator)
    y = x @ torch.randn(6, 1, generator=generator) + 0.5
    train, validation = data.loaders(x, y)
    module = Learner(nn.Linear(6, 1), F.mse_loss, sgd(0.05))
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 40},
        lambda: bool(F.mse_loss(*answers(module, validation)) < 1e-6),
    )


@program(data="synthetic")
def floor_of_noise() -> Training:
    """A coin of known bias for each kind of sample: the loss cannot fall below their entropy."""
    generator = torch.Generator().manual_seed(6)
    kind = torch.randint(4, (2048,), generator=generator)
    odds = torch.tensor([0.1, 0.3, 0.7, 0.9])[kind]
    heads = (torch.rand(2048, generator=generator) < odds).float()[:, None]
    train, validation = data.loaders(F.one_hot(kind, 4).float(), heads)
    module = Learner(nn.Linear(4, 1), F.binary_cross_entropy_with_logits, adam(0.02))
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 12},
        lambda: bool(F.binary_cross_entropy_with_logits(*answers(module, validation)) < 0.52),
    )


@program(data="diabetes", part="validation")
def floor_of_regression() -> Training:
    """A linear model of a noisy target reaches its best in a few epochs, and stays there."""
    features, target = data.diabetes()
    train, validation = data.loaders(
        data.standardized(features), data.standardized(target[:, None]), batch_size=32
    )
    module = Learner(nn.Linear(10, 1), F.mse_loss, adam(0.02))
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 60},
        lambda: bool(F.mse_loss(*answers(module, validation)) < 0.65),
    )


class Bandit(LightningModule):
    """A policy learns to name digits from rewards alone: the loss is an estimate full of noise."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.register_buffer("baseline", torch.tensor(0.1))
        self.baseline: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.policy(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        choices = torch.distributions.Categorical(logits=self(x))
        action = choices.sample()
        reward = (action == y).float()
        loss = -(choices.log_prob(action) * (reward - self.baseline)).mean()
        self.baseline.lerp_(reward.mean(), 0.05)
        self.log("reward", reward.mean())
        return loss - 0.01 * choices.entropy().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


@program(family="reinforcement")
def reinforce() -> Training:
    """Policy gradients with a baseline: the loss hovers about zero while rewards rise."""
    train, validation = _digits(64)
    module = Bandit()
    return Training(
        module, train, None, {"max_epochs": 30}, lambda: accuracy(module, validation) > 0.7
    )


@program(family="reinforcement", data="synthetic", part="validation")
def value_learning_with_a_moving_target() -> Training:
    """A value is learned from its own later estimate: the loss may rise as values grow."""

    class Values(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.value(F.one_hot(x, 16).float()).squeeze(1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            (state,) = batch
            following = (state + 1).clamp_max(15)
            with torch.no_grad():
                wanted = (following == 15).float() + 0.9 * self(following) * (following < 15)
            return F.smooth_l1_loss(self(state), wanted)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    states = torch.randint(15, (1500,), generator=torch.Generator().manual_seed(8))
    module = Values()

    def values_rise() -> bool:
        with torch.no_grad():
            known = module(torch.arange(15))
        return bool(known[14] > 0.8 and known[14] > known[10] > known[5])

    loader: Any = DataLoader(TensorDataset(states), 32, shuffle=True)
    return Training(module, loader, None, {"max_epochs": 15}, values_rise)


@program(family="mlp")
def adversarial_examples() -> Training:
    """Each batch is made harder by a step along the gradient of the input first."""

    class Robust(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(self(x), y), x)
            return F.cross_entropy(self(x.detach() + 0.1 * slope.sign()), y)

    train, validation = _digits(64)
    net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    module = Robust(net, optimizer=adam(3e-3))
    return Training(
        module, train, None, {"max_epochs": 15}, lambda: accuracy(module, validation) > 0.9
    )


@program(family="mlp", part="validation")
def mixed_up_samples() -> Training:
    """Mixup: pairs of samples and labels are blended, and the loss stays high."""

    class Mixup(Learner):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, y = batch
            share = float(torch.distributions.Beta(0.4, 0.4).sample())
            order = torch.randperm(len(x))
            said = self(share * x + (1 - share) * x[order])
            return share * F.cross_entropy(said, y) + (1 - share) * F.cross_entropy(said, y[order])

    train, validation = _digits(64)
    net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    module = Mixup(net, optimizer=adam(2e-3))
    return Training(
        module, train, validation, {"max_epochs": 15}, lambda: accuracy(module, validation) > 0.9
    )
