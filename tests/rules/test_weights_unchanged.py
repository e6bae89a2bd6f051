from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.nn.functional import cross_entropy

from lightning_plateau.callback import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile, SchedulerFact
from lightning_plateau.core.signal import (
    GRADIENT_NORM,
    LEARNING_RATES,
    SKIPPED_STEPS,
    UPDATE_RATIOS,
)
from lightning_plateau.rules.weights_unchanged import WeightsUnchanged
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer

RULE = WeightsUnchanged()
NAN, INF = float("nan"), float("inf")
SCHEDULED = Profile(schedulers=(SchedulerFact("LambdaLR"),))


def run(
    weight: list[float],
    bias: list[float] | None = None,
    rate: float = 0.0,
    gradient: float = 1.0,
    skipped: float = 0.0,
    **more: Any,
) -> History:
    steps = len(weight)
    return history(
        {
            UPDATE_RATIOS: {"fc.weight": weight, "fc.bias": bias or weight},
            LEARNING_RATES: {"0": [rate] * steps},
            GRADIENT_NORM: [gradient] * steps,
            SKIPPED_STEPS: [skipped] * steps,
        },
        loss=[2.3] * steps,
        **more,
    )


def test_a_learning_rate_of_zero_is_certain() -> None:
    found = RULE.check(run([0.0] * 5))
    assert found is not None
    assert found.certain
    assert "learning rate is 0" in found.message


def test_a_step_that_changes_nothing_is_likely() -> None:
    found = RULE.check(run([0.0] * 5, rate=1e-3))
    assert found is not None
    assert not found.certain


def test_parameters_of_which_one_was_not_measured() -> None:
    assert RULE.check(run([0.0] * 5, [NAN] * 5)) is not None


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        ([0.01] * 5, [0.0] * 5),
        ([1e-9] * 5, [1e-9] * 5),
        ([0.0] * 5, [INF, 0.1, 0.1, 0.1, 0.1]),
        ([0.0, 0.0, 0.0, 0.0, 1e-3], [0.0] * 5),
        ([1e-3, 0.0, 0.0, 0.0, 0.0], [0.0] * 5),
        ([NAN] * 5, [NAN] * 5),
        ([0.0] * 2, [0.0] * 2),
    ],
)
def test_silent(weight: list[float], bias: list[float]) -> None:
    assert RULE.check(run(weight, bias)) is None


@pytest.mark.parametrize("gradient", [0.0, NAN, INF])
def test_steps_without_a_gradient_to_follow(gradient: float) -> None:
    assert RULE.check(run([0.0] * 5, gradient=gradient)) is None


def test_skipped_steps() -> None:
    assert RULE.check(run([0.0] * 5, skipped=1.0)) is None


def test_a_schedule_that_begins_at_zero_gets_an_epoch() -> None:
    assert RULE.check(run([0.0] * 5, profile=SCHEDULED)) is None
    later = RULE.check(run([0.0] * 5, profile=SCHEDULED, epoch_ends=[3]))
    assert later is not None
    assert not later.certain
    over = RULE.check(run([0.0] * 5, profile=SCHEDULED, epoch_ends=[5], finished=True))
    assert over is not None
    assert over.certain


class Stepless(Digits):
    """Manual optimization whose optimizer never steps, or steps where Lightning does not see it."""

    def __init__(self, steps: bool) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.steps = steps

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers().optimizer
        optimizer.zero_grad()
        self.manual_backward(cross_entropy(self(batch[0]), batch[1]))
        if self.steps:
            optimizer.step()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [False, True])
def test_no_step_in_a_whole_run(steps: bool, tmp_path: Path) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path))
    trainer(callback, max_epochs=2).fit(Stepless(steps), loader(512))
    found = [finding for finding in callback.findings if finding.code == "LP412"]
    assert [finding.certain for finding in found] == ([] if steps else [True])
