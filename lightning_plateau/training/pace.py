"""Learning rates for the length of a step: set before it, put back after it.

Schedules, checkpoints and code that reads ``group["lr"]`` see the rates that the user configured;
only the update itself is made with others. So no scheduler can undo them, and a run that is resumed
without this library goes on with its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_plateau.training.optimizers import OptimizerAdapter


@dataclass(frozen=True, slots=True)
class WarmUpPlan:
    """Rates that rise in a straight line to what they would be.

    Attributes:
        start: Optimizer step at which it begins.
        steps: Steps until the full rate.

    Example:
        >>> plan = WarmUpPlan(start=100, steps=4)
        >>> [plan.rate(step, "0", 0.8) for step in (100, 101, 103, 110)]
        [0.2, 0.4, 0.8, 0.8]
    """

    start: int
    steps: int

    def rate(self, step: int, group: str, rate: float) -> float:
        """Return the learning rate of a group at ``step`` that would be ``rate``."""
        return rate * min(1.0, (step - self.start + 1) / self.steps)


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """Rates that begin at a peak once more and fall to what they would be along a cosine.

    Attributes:
        start: Optimizer step at which it begins.
        steps: Steps until the rates are the schedule's own again.
        peaks: The highest rate by group.

    Example:
        >>> plan = RestartPlan(start=100, steps=10, peaks={"0": 0.4})
        >>> [round(plan.rate(step, "0", 0.0), 3) for step in (100, 105, 110)]
        [0.4, 0.2, 0.0]
    """

    start: int
    steps: int
    peaks: dict[str, float]

    def rate(self, step: int, group: str, rate: float) -> float:
        """Return the learning rate of a group at ``step`` that would be ``rate``."""
        share = min(1.0, (step - self.start) / self.steps)
        return max(rate, self.peaks.get(group, 0.0) * (1.0 + math.cos(math.pi * share)) / 2.0)


Plan = WarmUpPlan | RestartPlan


class Pace:
    """Makes each update with the learning rates of a plan.

    Args:
        adapters: The optimizers.
        plan: The rates.
        clock: Returns the number of optimizer steps made.
    """

    def __init__(
        self, adapters: Sequence[OptimizerAdapter], plan: Plan, clock: Callable[[], int]
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._several = len(adapters) > 1
        self._held: dict[int, list[Any]] = {}
        self._hooks = []
        for adapter in adapters:
            optimizer = adapter.optimizer
            self._hooks += [
                optimizer.register_step_pre_hook(self._setter(adapter.index)),
                optimizer.register_step_post_hook(self._putter(adapter.index)),
            ]

    def rate(self, index: int, place: int, rate: float) -> float:
        """Return the learning rate with which a group is updated that is configured as ``rate``."""
        group = f"{index}.{place}" if self._several else f"{place}"
        return self._plan.rate(self._clock(), group, rate)

    def _setter(self, index: int) -> Any:
        def set_rates(optimizer: Any, *_: Any) -> None:
            self._held[index] = [_copy(group["lr"]) for group in optimizer.param_groups]
            for place, group in enumerate(optimizer.param_groups):
                _write(group, self.rate(index, place, float(group["lr"])))

        return set_rates

    def _putter(self, index: int) -> Any:
        def put_back(optimizer: Any, *_: Any) -> None:
            for group, rate in zip(optimizer.param_groups, self._held.pop(index), strict=True):
                _write(group, rate)

        return put_back

    def close(self) -> None:
        """Let updates be made as configured again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def finish(self) -> None:
        """Let updates be made as configured again: training ends."""
        self.close()


def _copy(rate: Any) -> Any:
    return rate.clone() if isinstance(rate, Tensor) else rate


def _write(group: dict[str, Any], rate: Any) -> None:
    if isinstance(group["lr"], Tensor):
        with torch.no_grad():
            group["lr"].fill_(rate) if not isinstance(rate, Tensor) else group["lr"].copy_(rate)
    else:
        group["lr"] = rate
