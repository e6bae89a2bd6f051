"""Trainings off the beaten path: each is watched to its end, and ends as it would unwatched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core import signal
from lightning_plateau.framework import PACKAGE
from tests.digits import Digits, digits, loader, trainer

callbacks = __import__(f"{PACKAGE}.callbacks", fromlist=["StochasticWeightAveraging"])


class Lbfgs(Digits):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class Idle(Digits):
    """Trains nothing: no optimizer."""

    def configure_optimizers(self) -> None:
        return None


class SparseWords(Digits):
    """Sparse gradients of an embedding beside dense ones, each with an optimizer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.ModuleList([nn.Embedding(17, 8, sparse=True), nn.Linear(512, 10)])

    def forward(self, images: Tensor) -> Tensor:
        words = (images * 16).long().flatten(1)
        return self.net[1](self.net[0](words).flatten(1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SparseAdam(self.net[0].parameters()),
            torch.optim.Adam(self.net[1].parameters()),
        ]


class Complex(Digits):
    """A complex weight, a tied one and one that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.wave = nn.Parameter(torch.randn(64, 10, dtype=torch.complex64))
        self.tied = self.wave
        self.unused = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1).to(torch.complex64) @ self.wave).abs() - self.tied.abs().mean()


class Scheduled(Digits):
    """A learning rate in a tensor, and one that changes with every step."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=torch.tensor(1e-2))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Direct(Digits):
    """Manual optimization that Lightning sees nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers().optimizer
        optimizer.zero_grad()
        loss = F.cross_entropy(self(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss


class Vector(Digits):
    """Starts backward from a loss of many elements."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        losses = F.cross_entropy(self(batch[0]), batch[1], reduction="none")
        self.manual_backward(losses, gradient=torch.full_like(losses, 1 / len(losses)))
        optimizer.step()


class Default(Digits):
    """Runs backward within a mode of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        with torch.device("cpu"):
            self.manual_backward(F.cross_entropy(self(batch[0]), batch[1]))
        optimizer.step()


class Lazy(Digits):
    """Layers that get their shapes from the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
        )


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(zip(*(part[:64] for part in digits()), strict=True))


MODULES = [Digits, Lbfgs, Idle, SparseWords, Complex, Scheduled, Direct, Vector, Default, Lazy]
TRAINERS: dict[str, dict[str, Any]] = {
    "limited": {"limit_train_batches": 3},
    "by-steps": {"max_steps": 5, "max_epochs": -1},
    "validated-often": {"val_check_interval": 2},
    "reloaded": {"reload_dataloaders_every_n_epochs": 1},
    "anomaly": {"detect_anomaly": True},
    "barebones": {"barebones": True, "enable_checkpointing": None, "logger": None},
}


def ending(module: Any, watched: Path | None, data: Any, more: Any, **settings: Any) -> Any:
    torch.manual_seed(1)
    own = [PlateauCallback(dirpath=str(watched), every_n_steps=3)] if watched else []
    fit = trainer(*own, *more, **{"max_epochs": 2, **settings})
    model = module()
    fit.fit(model, data(), loader(32, shuffle=False, first=1500))
    return [value.clone() for value in model.state_dict().values()], *own


def assert_unharmed(
    tmp_path: Path, module: Any = Digits, data: Any = None, more: Any = tuple, **settings: Any
) -> PlateauCallback:
    data = data or (lambda: loader(128))
    left, callback = ending(module, tmp_path, data, more(), **settings)
    (right,) = ending(module, None, data, more(), **settings)
    assert not callback.disabled
    assert [f.message for f in callback.findings if f.code == "LP903"] == []
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
    return callback


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", MODULES)
def test_modules(module: Any, tmp_path: Path) -> None:
    callback = assert_unharmed(tmp_path, module)
    if module not in (Idle, Direct):
        loss = callback.history[signal.LOSS]
        assert len(loss.finite) == callback.history.step == 8


@pytest.mark.filterwarnings("ignore")
def test_lazy_layers_are_known_by_their_shapes(tmp_path: Path) -> None:
    profile = assert_unharmed(tmp_path, Lazy).history.profile
    assert not profile.unshaped
    assert [fact.shape for fact in profile.parameters][-1] == (10,)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRAINERS)
def test_trainers(name: str, tmp_path: Path) -> None:
    settings = dict(TRAINERS[name])
    if settings.get("barebones"):
        own = PlateauCallback(dirpath=str(tmp_path))
        from lightning_plateau.framework import Trainer

        fit = Trainer(barebones=True, max_epochs=1, accelerator="cpu", callbacks=[own])
        fit.fit(Digits(), loader(64))
        assert not own.disabled
        return
    assert assert_unharmed(tmp_path, **settings).history.step > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "more",
    [
        lambda: [callbacks.StochasticWeightAveraging(1e-3, swa_epoch_start=1)],
        lambda: [callbacks.GradientAccumulationScheduler({0: 1, 1: 3})],
        lambda: [callbacks.EarlyStopping("val_loss", patience=0)],
    ],
    ids=["weight-averaging", "accumulation-scheduler", "early-stopping"],
)
def test_company_of_other_callbacks(more: Any, tmp_path: Path) -> None:
    assert assert_unharmed(tmp_path, more=more).history.step > 0


def test_streams(tmp_path: Path) -> None:
    callback = assert_unharmed(tmp_path, data=lambda: DataLoader(Stream(), 16))
    assert callback.history.profile.batches_per_epoch is None
    assert callback.history.step == 8
