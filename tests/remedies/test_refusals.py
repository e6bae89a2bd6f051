"""Where a remedy cannot work it says why, and is not tried."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Adam

from lightning_plateau.core.remedy import Remedy
from lightning_plateau.core.signal import GRADIENT_NORM, SKIPPED_STEPS, VALIDATION_LOSS
from lightning_plateau.remedies import catalogue
from lightning_plateau.testing import history
from lightning_plateau.training.run import Run
from tests.remedies.test_contract import Keeping, Sick, all_of, trained
from tests.trainings import batches, fit

EVERY = [pytest.param(remedy, id=remedy.name) for remedy in catalogue()]
OF_STATE = [
    pytest.param(remedy, id=remedy.name)
    for remedy in catalogue()
    if remedy.renews or remedy.keeps_state or remedy.replaces_optimizer
]
"""What rewrites weights, the whole state, or the optimizer."""
OF_STRUCTURE = (
    "augment-batch",
    "dropout",
    "reinitialize",
    "replace-activation",
    "standardize-input",
)


def with_flags(**flags: bool) -> Run:
    run = trained()
    run.trainer.should_stop = False
    run.adapters = tuple(replace(adapter, **flags) for adapter in run.adapters)
    return run


@pytest.mark.parametrize("kind", OF_STATE)
@pytest.mark.parametrize("flag", ["sharded", "deepspeed"])
def test_state_that_is_spread_or_held_elsewhere_is_left_alone(
    kind: type[Remedy], flag: str
) -> None:
    reason = kind().obstacle(with_flags(**{flag: True}))
    assert reason is not None
    assert "spread over the ranks" in reason or "DeepSpeed" in reason


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("flag", ["closure_repeats", "flat_shards"])
def test_no_guard_stands_where_a_step_cannot_be_looked_at(kind: type[Remedy], flag: str) -> None:
    run = with_flags()
    guarded = all_of(run)["guard"]
    kind().apply(run)
    if all_of(run)["guard"] == guarded:
        return
    reason = kind().obstacle(with_flags(**{flag: True}))
    assert reason is not None
    assert "several times a step" in reason or "shard" in reason


@pytest.mark.parametrize("kind", EVERY)
def test_a_compiled_step_of_an_optimizer_is_not_replaced(kind: type[Remedy]) -> None:
    if kind.replaces_optimizer:
        assert "compiled" in str(kind().obstacle(with_flags(compiled=True)))


class Compiled(Sick):
    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.net = torch.compile(self.net, backend="eager")


def compiled() -> Run:
    keeping = Keeping()
    fit(Compiled(partial(Adam, lr=0.01)), batches(10), keeping)
    signals = {GRADIENT_NORM: np.linspace(1.0, 2.0, 40), VALIDATION_LOSS: np.linspace(1.0, 2.0, 4)}
    signals[SKIPPED_STEPS] = np.eye(1, 10, 4)[0]
    keeping.run.refresh(history(signals, loss=[1.0] * 40))
    keeping.run.allow_user_overrides = True
    keeping.run.batch = next(iter(batches(1)))
    return keeping.run


@pytest.mark.parametrize("kind", EVERY)
def test_a_compiled_module_is_taken_back_exactly_or_refused(kind: type[Remedy]) -> None:
    run = compiled()
    reason = kind().obstacle(run)
    assert (kind.name in OF_STRUCTURE) == ("a part of the module is compiled" in str(reason))
    if reason is None:
        weights = [p.detach().clone() for p in run.module.parameters()]
        kind().revert(run, kind().apply(run))
        assert all(torch.equal(a, b) for a, b in zip(weights, run.module.parameters(), strict=True))
