"""What a copied module finds where the Trainer was: all of it to read, nothing of it to change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_plateau.framework import PACKAGE


class SchedulerStandIn:
    """A scheduler that can be read and does not step.

    Args:
        real: The scheduler of the training.
    """

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def step(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


class StrategyStandIn:
    """A strategy that runs backward and steps on the copy, and is the real one in all else.

    Args:
        real: The strategy of the training.
        module: The copy.
        optimizers: The copy's optimizers.
        backward: Runs backward from a loss of the copy.
    """

    def __init__(
        self,
        real: Any,
        module: nn.Module,
        optimizers: Sequence[Optimizer],
        backward: Callable[..., None],
    ) -> None:
        self._real = real
        self.lightning_module = self.model = module
        self.optimizers = list(optimizers)
        self._lightning_optimizers = [_wrapped(optimizer, self) for optimizer in optimizers]
        self._backward = backward

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def backward(self, loss: Tensor, _: Any = None, *args: Any, **kwargs: Any) -> None:
        """Run backward on the copy, without the hooks of the training."""
        self._backward(loss, *args, **kwargs)

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], *_: Any, **kwargs: Any
    ) -> Any:
        """Step an optimizer of the copy, without the hooks of the training."""
        return optimizer.step(closure, **kwargs)


class TrainerStandIn:
    """A Trainer that can be read; what is set on it stays with it.

    Args:
        real: The Trainer.
    """

    def __init__(self, real: Any) -> None:
        self._real = real

    def attach(self, strategy: StrategyStandIn) -> None:
        """Show the copy of ``strategy`` where the Trainer would show the module it trains."""
        self.strategy = strategy
        self.optimizers = strategy.optimizers
        self.lightning_module = self.model = strategy.lightning_module
        self.lr_scheduler_configs = [
            _with_stand_in(config) for config in self._real.lr_scheduler_configs
        ]
        silent = import_module(f"{PACKAGE}.loggers.logger").DummyLogger
        self.loggers = [silent() for _ in self._real.loggers]
        self.logger = self.loggers[0] if self.loggers else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def print(self, *_: Any, **__: Any) -> None:
        """Print nothing."""


def _with_stand_in(config: Any) -> Any:
    """Return Lightning's record of a scheduler with the scheduler replaced."""
    fields = vars(config)
    return type(config)(**{**fields, "scheduler": SchedulerStandIn(config.scheduler)})


def _wrapped(optimizer: Optimizer, strategy: StrategyStandIn) -> Any:
    wrapper = import_module(f"{PACKAGE}.core.optimizer").LightningOptimizer(optimizer)
    wrapper._strategy = strategy
    return wrapper
