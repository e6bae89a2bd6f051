from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile, SchedulerFact, Value
from lightning_plateau.core.signal import LEARNING_RATES
from lightning_plateau.rules.scheduler_interval_mismatch import SchedulerIntervalMismatch
from lightning_plateau.testing import history

RULE = SchedulerIntervalMismatch()
BATCHES, EPOCHS = 50, 20
PLANNED = BATCHES * EPOCHS
ALL = np.arange(PLANNED)


def run(
    kind: str,
    rates: np.ndarray[tuple[int], np.dtype[np.float64]],
    interval: str = "step",
    settings: Mapping[str, Value] | None = None,
) -> History:
    profile = Profile(
        schedulers=(SchedulerFact(kind, interval, settings=settings or {}),),
        planned_steps=PLANNED,
        planned_epochs=EPOCHS,
        batches_per_epoch=BATCHES,
    )
    series = {LEARNING_RATES: {"0": 0.1 * rates}}
    return history(series, loss=[2.3] * len(rates), profile=profile)


@pytest.mark.parametrize("steps", [200, PLANNED])
@pytest.mark.parametrize(
    ("kind", "rates", "settings"),
    [
        ("StepLR", 0.1 ** (ALL // 10), {"step_size": 10}),
        ("StepLR", 0.5 ** (ALL // 5), {"step_size": 5}),
        ("ExponentialLR", 0.95**ALL, {"gamma": 0.95}),
        ("LambdaLR", 0.9**ALL, {}),
        ("PolynomialLR", np.clip(1 - ALL / 20, 0, 1), {"total_iters": 20}),
    ],
)
def test_spent_within_the_first_epochs(
    kind: str,
    rates: np.ndarray[tuple[int], np.dtype[np.float64]],
    settings: Mapping[str, Value],
    steps: int,
) -> None:
    found = RULE.check(run(kind, rates[:steps], settings=settings))
    assert found is not None
    assert found.certainty == "likely"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("OneCycleLR", {"total_steps": PLANNED}),
        ("LinearLR", {"total_iters": 500, "start_factor": 0.01}),
    ],
)
def test_never_leaves_its_beginning(kind: str, settings: Mapping[str, Value]) -> None:
    found = RULE.check(run(kind, np.full(200, 0.04), "epoch", settings))
    assert found is not None
    assert "20 times" in found.message


def test_a_warm_up_of_a_far_longer_run_does_not_leave_its_beginning() -> None:
    found = RULE.check(run("LinearLR", ALL / 1e5, "step", {"total_iters": 100_000}))
    assert found is not None
    assert found.message.startswith("LinearLR has 100000 steps but is stepped on every batch, 1000")
    assert "estimated_stepping_batches" in found.fix
    late = run("LambdaLR", (ALL + 1) / 1e5, "step", {"base_lrs_0": 0.1})
    assert RULE.check(late) is not None
    assert RULE.check(run("LinearLR", ALL / 2e3, "step", {"total_iters": 2000})) is None


@pytest.mark.parametrize(
    ("kind", "rates", "interval", "settings"),
    [
        ("CosineAnnealingLR", (1 + np.cos(np.pi * ALL / PLANNED)) / 2, "step", {"T_max": PLANNED}),
        ("OneCycleLR", np.sin(np.pi * (ALL + 1) / (PLANNED + 1)), "step", {"total_steps": PLANNED}),
        ("ExponentialLR", 0.995**ALL, "step", {"gamma": 0.995}),
        ("LambdaLR", np.minimum(1.0, (ALL + 1) / 100), "step", {}),
        ("StepLR", 0.1 ** (ALL // 500), "epoch", {"step_size": 10}),
        ("StepLR", 0.1 ** (ALL // 300), "step", {"step_size": 300}),
        ("StepLR", 0.1 ** (ALL // 100), "epoch", {"step_size": 2}),
        ("StepLR", 0.1 ** (ALL // 120), "step", {"step_size": 120}),
        ("OneCycleLR", np.full(200, 0.04), "epoch", {"total_steps": EPOCHS}),
        ("LinearLR", np.full(200, 1.0), "epoch", {"total_iters": 500, "start_factor": 1.0}),
        ("CosineAnnealingLR", np.full(200, 1.0), "epoch", {"T_max": PLANNED}),
        ("ReduceLROnPlateau", 0.1 ** (ALL // 100), "epoch", {"patience": 2}),
    ],
)
def test_silent(
    kind: str,
    rates: np.ndarray[tuple[int], np.dtype[np.float64]],
    interval: str,
    settings: Mapping[str, Value],
) -> None:
    assert RULE.check(run(kind, rates, interval, settings)) is None


def test_silent_where_nothing_is_known() -> None:
    spent = run("StepLR", 0.1 ** (ALL // 10), settings={"step_size": 10})
    assert RULE.check(replace(spent, profile=replace(spent.profile, planned_steps=None))) is None
    assert RULE.check(replace(spent, profile=replace(spent.profile, schedulers=()))) is None
    by_hand = replace(spent.profile, manual_optimization=True)
    assert RULE.check(replace(spent, profile=by_hand)) is None


def _warm_up(length: int, peak: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Rates of a warm-up of that many epochs, as shares of a tenth."""
    return peak * np.minimum(1.0, (ALL // BATCHES + 1) / length)


def test_a_warm_up_in_steps_that_is_stepped_by_epochs_never_arrives() -> None:
    settings = {"base_lrs_0": 0.1}
    found = RULE.check(run("LambdaLR", _warm_up(1000), "epoch", settings))
    assert found is not None
    assert found.message.endswith("the learning rate has come to 2 % of 0.1")
    assert RULE.check(run("LambdaLR", _warm_up(1000)[:500], "epoch", settings)) is None
    assert RULE.check(run("LambdaLR", _warm_up(5), "epoch", settings)) is None
    falls = _warm_up(1000)[::-1]
    assert RULE.check(run("LambdaLR", falls, "epoch", settings)) is None
    assert RULE.check(run("LambdaLR", _warm_up(1000), "epoch", {})) is None
