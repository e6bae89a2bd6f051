"""Real trainings in which experiments are made on the way."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_plateau.experiments import catalogue
from lightning_plateau.experiments.budget import Budget
from lightning_plateau.experiments.experiment import Bench, Experiment, Result, conduct
from lightning_plateau.framework import Callback
from tests.digits import loader, trainer

ALL: tuple[Experiment, ...] = tuple(kind() for kind in catalogue())


class Conducting(Callback):
    """Makes experiments before the batches of given numbers, and keeps what came of them."""

    def __init__(
        self, experiments: Sequence[Experiment] = ALL, at: Iterable[int] = (10, 50, 100)
    ) -> None:
        self.experiments = experiments
        self.at = frozenset(at)
        self.results: list[Result] = []
        self.budget_steps = 1e6
        self._latest: list[Any] = []
        self._count = 0

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._latest = [*self._latest[-15:], copy.deepcopy(batch)]
        if self._count in self.at:
            for experiment in self.experiments:
                agree = partial(trainer.strategy.reduce_boolean_decision, all=False)
                budget = Budget(self.budget_steps, agree=agree)
                bench = Bench(trainer, pl_module, list(self._latest), budget)
                self.results.append(conduct(experiment, bench))
        self._count += 1

    def result(self, name: str) -> Result:
        return [result for result in self.results if result.name == name][-1]


def ending(
    callback: Callback | None, make: Any, *, steps: int = 110, data: Any = None, **settings: Any
) -> tuple[list[Any], Any]:
    """Return all that a training leaves behind, logged metrics included, and the Trainer."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - what users' augmentations draw from
    torch.manual_seed(1)
    module = make()
    callbacks = [*([callback] if callback else []), *settings.pop("callbacks", ())]
    fit = trainer(*callbacks, **{"max_epochs": -1, "max_steps": steps, **settings})
    fit.fit(module, data or loader(200, 16), loader(64, shuffle=False, first=1500))
    left: list[Any] = [*module.state_dict().values(), *module.buffers()]
    for optimizer in fit.optimizers:
        for state in optimizer.state_dict()["state"].values():
            left.extend(state.values())
    left += [parameter.grad for parameter in module.parameters()]
    left += [part.training for part in module.modules()]
    left += sorted((name, float(value)) for name, value in fit.callback_metrics.items())
    left += [fit.global_step, fit.current_epoch, fit.fit_loop.state_dict()]
    numpy_state = torch.from_numpy(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002
    return [*left, torch.get_rng_state(), numpy_state, random.getstate()], fit


def assert_bitwise_equal(left: list[Any], right: list[Any]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        if isinstance(one, Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other) or (one.isnan() & other.isnan()).any()
        else:
            assert one == other
