"""A leap that lasts is gone back from, and a training that ends in one ends with good weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from lightning_plateau import PlateauCallback
from lightning_plateau.rules.loss_spike import LossSpike
from lightning_plateau.testing import history
from lightning_plateau.treatment.leap import LEAP, last_leap, worth_going_back
from tests.remedies.test_contract import all_of
from tests.trainings import Guarding, Regressor, batches, fit
from tests.treatment.test_setback import run_of

STEPS = 240
LOW = [4.0] * 5 + [0.1] * 15
LEAPT = [*LOW, *[0.1] * 12, *[3.0] * 8]


def test_weights_that_have_leapt_are_told_from_those_before() -> None:
    run = run_of(LEAPT, lr=0.9)
    before = all_of(run)
    found = last_leap(run)
    assert found is not None
    assert found.now > 2 * found.earlier
    assert all_of(run) == before


def test_a_batch_that_the_weights_are_good_at_shows_no_leap() -> None:
    assert last_leap(run_of(LEAPT, lr=0.01)) is None


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([*LOW, *[0.1] * 20], id="no rise"),
        pytest.param([*LOW, *[0.1] * 12, *[0.15] * 8], id="not twice as high"),
        pytest.param([*LOW, *[3.0] * 12, *[0.1] * 8], id="down again"),
        pytest.param([*LOW[:15], *[1e-4] * 17, *[1e-3] * 8], id="of no account beside the fall"),
        pytest.param([*LOW, *[float("nan")] * 20], id="not finite"),
        pytest.param([], id="nothing known"),
    ],
)
def test_what_is_no_leap(losses: list[float]) -> None:
    assert last_leap(run_of(losses, lr=0.9)) is None


def test_the_first_weights_are_never_gone_back_to() -> None:
    guarding = Guarding()
    fit(Regressor(), batches(5), guarding)
    run = guarding.run
    assert last_leap(run) is None
    run.step = 0
    run.snapshots.keep(run)
    run.step = 40
    run.refresh(history(loss=LEAPT))
    assert last_leap(run) is None


class Scheduled(Regressor):
    """A regressor whose rate is multiplied by ``factor`` for the last five steps."""

    def __init__(self, factor: float) -> None:
        super().__init__(partial(SGD, lr=0.05))
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
        self.factor = factor

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = LambdaLR(optimizer, lambda step: self.factor if step >= STEPS - 5 else 1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def end_of(factor: float, policy: Any, folder: Path) -> tuple[PlateauCallback, Regressor]:
    callback = PlateauCallback(policy=policy, dirpath=str(folder), quiet=True)
    module = Scheduled(factor)
    fit(module, batches(STEPS), callback)
    return callback, module


@torch.no_grad()
def loss_of(module: Regressor) -> float:
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    return float(mse_loss(module.eval().net(points), points.sum(dim=-1, keepdim=True)))


def test_a_training_that_ends_in_a_leap_ends_with_good_weights(tmp_path: Path) -> None:
    leapt = loss_of(end_of(16.0, "observe", tmp_path)[1])
    callback, module = end_of(16.0, "auto", tmp_path)
    [made] = callback.journal.interventions
    [outcome] = callback.journal.outcomes
    assert (made.remedy, made.code, made.step) == ("roll-back", LEAP, STEPS)
    assert "ended in a leap" in outcome.reason
    assert loss_of(module) < 0.5 * leapt


def test_a_policy_without_it_leaves_the_leap(tmp_path: Path) -> None:
    leapt = end_of(16.0, "observe", tmp_path)[1].state_dict()
    safe = end_of(16.0, "safe", tmp_path)[1].state_dict()
    assert all(torch.equal(a, b) for a, b in zip(leapt.values(), safe.values(), strict=True))


def test_a_training_without_a_leap_is_left_bit_for_bit(tmp_path: Path) -> None:
    seen = end_of(1.0, "observe", tmp_path)[1].state_dict()
    callback, module = end_of(1.0, "auto", tmp_path)
    assert not callback.journal.interventions
    assert all(
        torch.equal(a, b) for a, b in zip(seen.values(), module.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(("step", "worth"), [(140, False), (149, False), (150, True), (200, True)])
def test_a_leap_is_waited_for_as_long_as_going_back_would_cost(step: int, worth: bool) -> None:
    run = run_of(LEAPT)  # whose last snapshot is of step 20
    run.step = step
    found = replace(LossSpike().finding(run.history, 0.7, "", step=85), remedies=("roll-back",))
    assert worth_going_back(run, found) is worth
    assert worth_going_back(run, replace(found, remedies=("clip-gradients",)))


class Struck(Regressor):
    """A regressor whose first weights are fifty times as large from step 120 on."""

    def __init__(self) -> None:
        super().__init__(partial(SGD, lr=0.05))
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

    def training_step(self, batch: Any, index: int) -> Any:
        if self.global_step == 120:
            with torch.no_grad():
                self.net[0].weight.mul_(50)
        return super().training_step(batch, index)


def test_a_leap_that_lasts_is_gone_back_from(tmp_path: Path) -> None:
    losses = []
    for policy in ("observe", "auto"):
        callback = PlateauCallback(policy=policy, dirpath=str(tmp_path / policy), quiet=True)
        module = Struck()
        fit(module, batches(2 * STEPS), callback)
        losses.append(loss_of(module))
    [made, *_] = callback.journal.interventions
    assert made.remedy == "roll-back"
    assert 0 < made.after["state_of_step"] <= 120
    assert callback.journal.outcomes[0].verdict == "kept"
    assert losses[1] < 0.5 * losses[0]
