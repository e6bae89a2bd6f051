"""Small real trainings for tests of what acts on a run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.recording.probes.gradients import tensor_norms
from lightning_plateau.training.guard import Guard, GuardSettings
from lightning_plateau.training.optimizers import adapt, adapter_of
from lightning_plateau.training.run import Run

BATCH = 4
MakeOptimizer = Callable[[Any], Any]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)


class Regressor(LightningModule):
    """A small network with batch norm, trained by whatever optimizer it is given."""

    def __init__(self, optimizer: MakeOptimizer = sgd) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        self._make = optimizer

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        points, targets = batch
        return mse_loss(self.net(points), targets)

    def configure_optimizers(self) -> Any:
        return self._make(self.parameters())


class ManualRegressor(Regressor):
    def __init__(self, optimizer: MakeOptimizer = sgd) -> None:
        super().__init__(optimizer)
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class Guarding(Callback):
    """The guard alone, wired as the real callback does."""

    def __init__(self, settings: GuardSettings | None = None) -> None:
        self.settings = settings or GuardSettings()
        self.skipped: list[bool] = []
        self.norms: list[float] = []
        self.run: Run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.run = Run.of(trainer, pl_module, adapt(trainer))
        self.run.guard.settings = self.settings
        self.window_open = False

    @property
    def guard(self) -> Guard:
        return self.run.guard

    def on_train_batch_start(self, *_: Any) -> None:
        self.guard.before_batch(not self.window_open)
        self.window_open = True

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        adapter = adapter_of(self.run.adapters, optimizer)
        assert adapter is not None
        gradients = [p.grad for p in adapter.parameters if p.grad is not None]
        norms = torch.stack(tensor_norms(gradients))
        if adapter.gradient_scale is not None:
            norms = norms / adapter.gradient_scale
        self.norms.append(float(norms.norm()))
        self.guard.before_step(adapter, norms, clipped_next=not adapter.manual)
        self.window_open = False

    def on_train_batch_end(self, *_: Any) -> None:
        if not self.window_open:
            self.skipped.append(bool(self.guard.after_step()))
            self.run.step += 1

    def on_train_end(self, *_: Any) -> None:
        self.guard.close()


def batches(number: int, *, leave_out: Sequence[int] = (), poison: int | None = None) -> DataLoader:
    """Return batches in a fixed order; one of them may hold a NaN, some may be missing."""
    generator = torch.Generator().manual_seed(5)
    points = torch.randn(number, BATCH, 3, generator=generator)
    targets = points.sum(dim=-1, keepdim=True)
    if poison is not None:
        points[poison, 0, 0] = float("nan")
    kept = [index for index in range(number) if index not in leave_out]
    data = TensorDataset(points[kept].flatten(0, 1), targets[kept].flatten(0, 1))
    return DataLoader(data, batch_size=BATCH)


def fit(
    module: LightningModule, loader: DataLoader, *callbacks: Callback, **settings: Any
) -> Trainer:
    """Train one epoch, quietly; the module is initialized the same each time."""
    seed_everything(3, verbose=False)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.BatchNorm1d):
            part.reset_parameters()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(**quiet(callbacks, **settings))
        trainer.fit(module, loader)
    return trainer


def quiet(callbacks: Sequence[Callback] = (), **settings: Any) -> dict[str, Any]:
    return {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": list(callbacks),
        **settings,
    }


def scaled(initial_scale: float = 1024.0) -> list[MixedPrecision]:
    """Return half precision with a gradient scaler; on the CPU Lightning itself uses none."""
    scaler = torch.amp.GradScaler("cpu", init_scale=initial_scale)
    return [MixedPrecision("16-mixed", "cpu", scaler)]


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """Return every tensor of module and optimizers by name, copied."""
    tensors = {f"module/{k}": v for k, v in trainer.lightning_module.state_dict().items()}
    for index, optimizer in enumerate(trainer.optimizers):
        for number, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer/{index}/{number}/{key}"] = torch.as_tensor(value)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different
