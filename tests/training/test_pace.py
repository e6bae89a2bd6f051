from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

from lightning_plateau.core.signal import LEARNING_RATES
from lightning_plateau.remedies.warm_restart import WarmRestart
from lightning_plateau.remedies.warm_up import WarmUp
from lightning_plateau.testing import history
from lightning_plateau.training.pace import Pace, RestartPlan, WarmUpPlan
from lightning_plateau.training.run import Run
from tests.trainings import Guarding, ManualRegressor, Regressor, batches, fit, scaled

SCHEDULES = {
    "none": None,
    "step": lambda optimizer: StepLR(optimizer, 3, gamma=0.5),
    "lambda": lambda optimizer: LambdaLR(optimizer, lambda step: 1.0 / (1 + step)),
    "one-cycle": lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=40),
}


class Scheduled(Regressor):
    """Notes the rate at which it is really updated, and the one that is configured."""

    schedule: Any = None

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.used: list[float] = []
        self.configured: list[float] = []

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        if self.schedule is None:
            return optimizer
        return [optimizer], [{"scheduler": self.schedule(optimizer), "interval": "step"}]


class Paced(Guarding):
    def __init__(self, plan: Any) -> None:
        super().__init__()
        self.plan = plan

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        if self.plan is not None:
            pace = Pace(self.run.adapters, self.plan, lambda: self.run.step)
            self.run.attach("pace", pace)
        # After ours, so that it sees what the update was made with.
        trainer.optimizers[0].register_step_pre_hook(
            lambda optimizer, *_: pl_module.used.append(float(optimizer.param_groups[0]["lr"]))
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *rest)
        pl_module.configured.append(float(trainer.optimizers[0].param_groups[0]["lr"]))


def rates(plan: Any, make: Any, schedule: str = "none", **settings: Any) -> Scheduled:
    module = Scheduled(make)
    module.schedule = SCHEDULES[schedule]
    fit(module, batches(8), Paced(plan), **settings)
    return module


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "make",
    [
        partial(SGD, lr=0.1, momentum=0.9),
        partial(AdamW, lr=0.01, fused=True),
        lambda p: Adam(p, lr=torch.tensor(0.01), capturable=False, foreach=False),
    ],
)
def test_updates_are_made_at_the_pace_and_nobody_else_sees_it(make: Any, schedule: str) -> None:
    plain = rates(None, make, schedule)
    paced = rates(WarmUpPlan(2, 4), make, schedule)
    assert paced.configured == plain.configured
    factors = [min(1.0, (step - 1) / 4) for step in range(8)]
    expected = [rate * factor for rate, factor in zip(plain.used, factors, strict=True)]
    assert paced.used == pytest.approx(expected, rel=1e-5)


def test_under_a_scaler_too() -> None:
    make = partial(SGD, lr=0.1)
    paced = rates(RestartPlan(0, 8, {"0": 0.8}), make, plugins=scaled(1.0))
    assert paced.used[0] == pytest.approx(0.8)
    assert set(paced.configured) == {0.1}


def run_of(make: Any, module: Any = Regressor) -> Run:
    guarding = Guarding()
    fit(module(make), batches(3), guarding)
    return guarding.run


def test_the_user_who_steps_by_hand_is_paced_too() -> None:
    run = run_of(partial(SGD, lr=0.1), ManualRegressor)
    change = WarmUp(steps=10).apply(run)
    assert run.paced(0, 0, 0.1) == pytest.approx(0.01)
    run.step += 4
    assert run.paced(0, 0, 0.1) == pytest.approx(0.05)
    WarmUp().revert(run, change)
    assert run.paced(0, 0, 0.1) == 0.1


def test_a_restart_begins_at_a_share_of_the_highest_rate() -> None:
    run = run_of(partial(SGD, lr=0.001))
    run.refresh(history({LEARNING_RATES: {"0": [0.01, 0.4, 0.001]}}))
    assert WarmRestart(share=0.5).apply(run).after == {"learning_rate": 0.2}
    assert run.paced(0, 0, 0.001) == 0.2
    assert WarmUp().obstacle(run) == "another pace is set already"


def test_the_schedule_of_the_user_wins() -> None:
    run = run_of(
        partial(SGD, lr=0.1),
        type("Stepped", (Scheduled,), {"schedule": staticmethod(SCHEDULES["step"])}),
    )
    assert "is yours" in str(WarmRestart().obstacle(run))
    run.allow_user_overrides = True
    assert WarmRestart().obstacle(run) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WarmUp(steps=0), "steps must be at least 1, but is 0"),
        (lambda: WarmRestart(share=0.0), "share must be above 0 and at most 1, but is 0.0"),
    ],
)
def test_settings_are_checked(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
