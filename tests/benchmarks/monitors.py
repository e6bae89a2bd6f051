"""The monitors that are compared: nothing, what people write, what packages offer, and ours."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from lightning_plateau import PlateauCallback
from lightning_plateau.framework import Callback


class Empty(Callback):
    """Does nothing: what Lightning asks for a callback."""


class TutorialLoop(Callback):
    """What tutorials write: the norm of each gradient as a number, and a look for NaN."""

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Read every gradient."""
        self.norms = {}
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                self.norms[name] = parameter.grad.norm().item()
                if torch.isnan(parameter.grad).any():
                    raise ValueError(name)


class LoggedGradNorms(Callback):
    """Lightning's own recipe: ``grad_norm`` and ``log_dict`` on every step."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Log every norm."""
        from lightning.pytorch.utilities import grad_norm

        pl_module.log_dict(grad_norm(pl_module, norm_type=2))


class ZScoreClipping(Callback):
    """The rule of ZClip (Kumar et al., 2025): clip where the z-score of the norm exceeds 2.5."""

    def __init__(self) -> None:
        self.mean = self.variance = math.nan

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Clip."""
        norm = math.sqrt(
            sum(p.grad.norm().item() ** 2 for p in pl_module.parameters() if p.grad is not None)
        )
        if math.isnan(self.mean):
            self.mean, self.variance = norm, 0.0
        spread = math.sqrt(self.variance) + 1e-8
        if (norm - self.mean) / spread > 2.5 and self.variance:
            torch.nn.utils.clip_grad_norm_(pl_module.parameters(), self.mean + 2.5 * spread)
        self.mean = 0.97 * self.mean + 0.03 * norm
        self.variance = 0.97 * self.variance + 0.03 * (norm - self.mean) ** 2


class OptimizerMonitor(Callback):
    """The manner of Composer's monitor: norms of gradients and of Adam's moments, by layer.

    Args:
        every: Steps between two records.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.metrics: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Measure on every ``every``-th step."""
        if trainer.global_step % self.every:
            return
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                self.metrics[f"grad/{name}"] = torch.linalg.vector_norm(parameter.grad)
                for key, value in optimizer.state.get(parameter, {}).items():
                    if key != "step":
                        self.metrics[f"{key}/{name}"] = torch.linalg.vector_norm(value)
        self.total = torch.stack(list(self.metrics.values())).norm().item()


class WandbWatch(Callback):
    """``wandb.watch(log="all")`` in an offline run.

    Args:
        every: Steps between two histograms.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to watch."""
        import wandb

        settings = wandb.Settings(silent=True, console="off")
        self.run = wandb.init(mode="offline", settings=settings, dir=tempfile.mkdtemp())
        self.run.watch(pl_module, log="all", log_freq=self.every)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Let wandb take the histograms."""
        self.run.log({"step": trainer.global_step})

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """End the run."""
        self.run.unwatch(pl_module)
        self.run.finish()


@dataclass(frozen=True)
class Monitor:
    """A monitor: what is passed to the Trainer.

    Attributes:
        name: Name in the table.
        callbacks: Makes the callbacks, given a folder to write to.
        settings: Arguments of the Trainer.
        needs: Package that must be installed.
        lasting: Whether later steps are measured too; where every step costs the same, the first
            ones say it all.
    """

    name: str
    callbacks: Callable[[str], list[Callback]] = lambda folder: []
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: str = "torch"
    lasting: bool = False

    @property
    def available(self) -> bool:
        """Whether what it needs is installed."""
        return find_spec(self.needs) is not None


def _ours(policy: Any) -> Callable[[str], list[Callback]]:
    return lambda folder: [PlateauCallback(policy=policy, dirpath=folder)]


MONITORS = (
    Monitor("bare", lasting=True),
    Monitor("an empty callback", lambda _: [Empty()]),
    Monitor("`gradient_clip_val=1`", settings={"gradient_clip_val": 1.0}, lasting=True),
    Monitor("`detect_anomaly`", settings={"detect_anomaly": True}),
    Monitor("tutorial loop of `.item()`", lambda _: [TutorialLoop()]),
    Monitor("Lightning `grad_norm` + `log_dict`", lambda _: [LoggedGradNorms()]),
    Monitor("ZClip", lambda _: [ZScoreClipping()]),
    Monitor("Composer's OptimizerMonitor, every step", lambda _: [OptimizerMonitor(1)]),
    Monitor("Composer's OptimizerMonitor, every 10", lambda _: [OptimizerMonitor(10)]),
    Monitor("`wandb.watch(all)`, every step", lambda _: [WandbWatch(1)], needs="wandb"),
    Monitor("`wandb.watch(all)`, every 1000", lambda _: [WandbWatch(1000)], needs="wandb"),
    Monitor("lightning_plateau `observe`", _ours("observe"), lasting=True),
    Monitor("lightning_plateau `safe`", _ours("safe"), lasting=True),
    Monitor("lightning_plateau `auto`", _ours("auto"), lasting=True),
)
