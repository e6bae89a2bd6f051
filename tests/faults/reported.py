"""What people reported and what they were answered: the program as it was, or mended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import sklearn.datasets
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, answers, explained
from tests.faults.program import Training

EPOCHS = {"max_epochs": 8}
Make = Callable[[bool], Training]


def _learner(
    module: Learner, pair: Any, score: Callable[..., float], least: float, epochs: int = 8
) -> Training:
    train, validation = pair
    settings = {"max_epochs": epochs}
    return Training(module, train, validation, settings, lambda: score(module, validation) > least)


def _right(module: nn.Module, loader: DataLoader[Any]) -> float:
    """Return the share of answers on the right side of zero."""
    said, y = answers(module, loader)
    return float(((said > 0) == (y > 0.5)).double().mean())


class _UNet(nn.Module):
    def __init__(self, *, rectified: bool) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.last = nn.Conv2d(16, 1, 1)
        self.rectified = rectified

    def forward(self, x: Tensor) -> Tensor:
        wide = self.down(x)
        narrow = self.inner(F.max_pool2d(wide, 2))
        said = self.last(torch.cat([wide, self.up(narrow)], 1))
        return F.relu(said) if self.rectified else said


def masks(*, mended: bool) -> Training:
    images, _ = data.digits()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    pair = data.loaders(images / 16 + 0.2 * noise, (images > 8).float())
    net = _UNet(rectified=not mended)
    return _learner(Learner(net, F.binary_cross_entropy_with_logits), pair, _right, 0.85, 4)


def several_labels(*, mended: bool) -> Training:
    images, y = data.digits()
    tags = torch.stack([y % 2 == 0, y > 4, y % 3 == 0, (y > 5) | (y == 0), y == 1], 1).float()
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))
    loss = F.binary_cross_entropy_with_logits if mended else F.cross_entropy
    return _learner(Learner(net, loss), data.loaders(images.flatten(1) / 16, tags), _right, 0.85)


class _Rounded(nn.Module):
    def __init__(self, *, through: bool) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.decoder = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64))
        self.through = through

    def forward(self, x: Tensor) -> Tensor:
        code = torch.sigmoid(self.encoder(x))
        bits = code.round()
        return self.decoder(code + (bits - code).detach() if self.through else bits)


def rounded_code(*, mended: bool) -> Training:
    pixels = data.digits()[0].flatten(1) / 16
    module = Learner(_Rounded(through=mended), F.mse_loss)
    return _learner(module, data.loaders(pixels, pixels), explained, 0.5)


class Coder(LightningModule):
    """A variational autoencoder of digits whose divergence enters the loss by ``weight``."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())

    def _loss(self, batch: Any) -> Tensor:
        x, _ = batch
        mean, logarithm = self.encoder(x).chunk(2, 1)
        code = mean + (logarithm / 2).exp() * torch.randn_like(mean)
        price = (-0.5 * (1 + logarithm - mean**2 - logarithm.exp()).sum(1)).mean()
        return F.mse_loss(self.decoder(code), x) + self.weight * price

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x).chunk(2, 1)[0])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def coder(*, mended: bool) -> Training:
    pixels = data.digits()[0].flatten(1) / 16
    module = Coder(0.002 if mended else 1.0)
    train, validation = data.loaders(pixels, pixels)
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 25 if mended else 12},
        lambda: explained(module, validation) > 0.5,
    )


class _Ordered(nn.Module):
    def __init__(self, *, placed: bool) -> None:
        super().__init__()
        self.rise = nn.Linear(8, 32)
        self.place = nn.Parameter(torch.randn(8, 32) * 0.3) if placed else None
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        risen = self.rise(x)
        risen = risen if self.place is None else risen + self.place
        return self.head(self.encoder(risen).mean(1))


def upside_down(*, mended: bool) -> Training:
    rows = data.digits()[0].squeeze(1) / 16
    turned = torch.randint(2, (len(rows),), generator=torch.Generator().manual_seed(3))
    seen = torch.where(turned[:, None, None] == 1, rows.flip(1), rows)
    module = Learner(_Ordered(placed=mended))
    return _learner(module, data.loaders(seen, turned), accuracy, 0.75, 10)


class _Masked(nn.Module):
    """One head of attention by hand; what is zero is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        words = self.embed(x)
        scores = self.q(words) @ self.k(words).transpose(1, 2) / math.sqrt(32)
        scores = scores.masked_fill((x == 0)[:, None], -math.inf)
        return self.head((words + scores.softmax(-1) @ self.v(words)).mean(1))


def lines_with_padding(*, mended: bool) -> Training:
    lines, _ = data.text()
    ends = torch.randint(8, 33, (len(lines),), generator=torch.Generator().manual_seed(5))
    lines = torch.where(torch.arange(32) < ends[:, None], lines, 0)
    calls = (lines == ord("(")).any(1).long()
    if not mended:
        lines[100] = 0
    return _learner(
        Learner(_Masked(), optimizer=adam(3e-3)), data.loaders(lines, calls), accuracy, 0.9
    )


def spread_of_the_answer(*, mended: bool) -> Training:
    x, y = data.diabetes()
    wanted = ((y - y.mean()) / y.std())[:, None]
    net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        mean, spread = said.chunk(2, 1)
        variance = F.softplus(spread) + 1e-3 if mended else F.relu(spread)
        return (variance.log() + (y - mean) ** 2 / variance).mean()

    def explains(module: nn.Module, loader: DataLoader[Any]) -> float:
        said, y = answers(module, loader)
        return float(1 - (said[:, :1] - y).square().mean() / y.var())

    pair = data.loaders(data.standardized(x), wanted)
    return _learner(Learner(net, loss, adam(3e-3)), pair, explains, 0.25, 12)


def share_of_the_target(*, mended: bool) -> Training:
    pixels = data.digits()[0].flatten(1) / 16
    wanted, seen = pixels[:, 34:35], pixels.clone()
    seen[:, 34] = 0
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    loss = F.l1_loss if mended else lambda said, y: ((y - said) / y).abs().mean()
    return _learner(Learner(net, loss), data.loaders(seen, wanted), explained, 0.3)


class _MadeAnew(nn.Module):
    def __init__(self, *, kept: bool) -> None:
        super().__init__()
        self.body = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10) if kept else None

    def forward(self, x: Tensor) -> Tensor:
        head = self.head or nn.Linear(64, 10)
        return head(F.relu(self.body(x)))


def head_in_forward(*, mended: bool) -> Training:
    images, y = data.digits()
    pair = data.loaders(images.flatten(1) / 16, y)
    return _learner(Learner(_MadeAnew(kept=mended)), pair, accuracy, 0.85)


class Players(LightningModule):
    """A generator and its critic, in manual optimization."""

    def __init__(self, *, judged: bool = True, optimized: bool = True) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.judged, self.optimized = judged, optimized
        self.maker = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid())
        self.critic = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, _ = batch
        making, judging = self.optimizers()
        made = self.maker(torch.randn(len(x), 16))
        true, false = torch.ones(len(x), 1), torch.zeros(len(x), 1)
        told_apart = F.binary_cross_entropy_with_logits(
            self.critic(x), true
        ) + F.binary_cross_entropy_with_logits(self.critic(made.detach()), false)
        judging.zero_grad()
        self.manual_backward(told_apart)
        judging.step()
        shown = made if self.judged else made.detach()
        believed = F.binary_cross_entropy_with_logits(self.critic(shown), true)
        making.zero_grad()
        self.manual_backward(believed)
        making.step()

    def configure_optimizers(self) -> Any:
        moved = self.maker if self.optimized else self.critic
        betas = (0.5, 0.999)
        return [
            torch.optim.Adam(moved.parameters(), lr=2e-4, betas=betas),
            torch.optim.Adam(self.critic.parameters(), lr=2e-4, betas=betas),
        ], []


def players(*, judged: bool = True, optimized: bool = True) -> Training:
    pixels = data.digits()[0].flatten(1) / 16
    module = Players(judged=judged, optimized=optimized)
    before = module.maker[0].weight.detach().clone()
    settings = {"max_epochs": 10}
    train, _ = data.loaders(pixels, pixels)
    return Training(
        module, train, None, settings, lambda: not torch.equal(before, module.maker[0].weight)
    )


def windows() -> tuple[Tensor, Tensor]:
    """Return ten values ``[N, 10, 1]`` of a curve and the next ``[N, 1]``, in the hundreds."""
    photo = torch.tensor(sklearn.datasets.load_sample_images().images[0]).float().mean(2)
    curve = 300 + 6 * photo.mean(1)
    rows = torch.stack([curve[start : start + 11] for start in range(len(curve) - 11)])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return rows[:, :10, None], rows[:, 10:]


class _Next(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(1, 50, batch_first=True), nn.Linear(50, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def prices(*, mended: bool) -> Training:
    x, y = windows()
    if mended:
        mean, std = x.mean(), x.std()
        x, y = (x - mean) / std, (y - mean) / std
    module = Learner(_Next(), F.mse_loss, adam(3e-3 if mended else 1e-3))
    return _learner(module, data.loaders(x, y), explained, 0.8, 20)


def fourth_power(*, mended: bool) -> Training:
    x = 200 * torch.rand(1500, 1, generator=torch.Generator().manual_seed(0)) - 100
    y = x**4
    if mended:
        x, y = x / 100, y / 1e8
    net = nn.Sequential(
        nn.Linear(1, 50), nn.Sigmoid(), nn.Linear(50, 50), nn.ELU(), nn.Linear(50, 1)
    )
    module = Learner(net, F.mse_loss, adam(1e-2 if mended else 1e-3))
    return _learner(module, data.loaders(x, y), explained, 0.8, 12)


def drawn_by_class(*, mended: bool) -> Training:
    images, y = data.digits()
    cut = 1348
    rarity = 1 / torch.bincount(y[:cut], minlength=10)
    sampler = WeightedRandomSampler((rarity[y[:cut]] if mended else rarity).tolist(), cut)
    seen = TensorDataset(images[:cut] / 16, y[:cut])
    unseen = DataLoader(TensorDataset(images[cut:] / 16, y[cut:]), 256)
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    return _learner(Learner(net), (DataLoader(seen, 32, sampler=sampler), unseen), accuracy, 0.85)
