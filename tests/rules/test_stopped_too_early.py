from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import LEARNING_RATES, VALIDATION_LOSS, Signal
from lightning_plateau.rules.stopped_too_early import StoppedTooEarly
from lightning_plateau.testing import history
from tests.rules.curves import HEALTHY, Floats, curve

RULE = StoppedTooEarly()
STILL_FALLING = {"linear, noisy", "negative", "plateau, then a drop"}
TIME = np.arange(400) / 400
NOISE = np.random.default_rng(0).normal(0, 0.05, 400)
SLOW = 2.3 * np.exp(-0.7 * TIME) + NOISE


def run(losses: Floats, validation: Floats | None = None, rates: Floats | None = None) -> History:
    signals: dict[Signal, Any] = {
        VALIDATION_LOSS: losses[::50] if validation is None else validation
    }
    if rates is not None:
        signals[LEARNING_RATES] = {"0": rates}
    profile = Profile(planned_steps=len(losses))
    return history(signals, loss=losses, every=50, profile=profile, finished=True)


def test_still_falling() -> None:
    found = RULE.check(run(SLOW))
    assert found is not None
    assert "more steps" in found.fix


def test_a_run_that_has_hardly_begun_may_fall_slowly() -> None:
    start = 2.3 - 0.1 * TIME + NOISE / 10
    assert RULE.check(run(start)) is not None
    assert RULE.check(run(np.full(400, 2.25) + NOISE / 10)) is None


def test_less_sure_without_validation() -> None:
    with_it, without = RULE.check(run(SLOW)), RULE.check(run(SLOW, np.array([])))
    assert with_it is not None
    assert without is not None
    assert without.confidence < with_it.confidence


@pytest.mark.parametrize("steps", [40, 400, 2000])
@pytest.mark.parametrize("kind", sorted(HEALTHY.keys() - STILL_FALLING))
def test_healthy(kind: str, steps: int) -> None:
    assert RULE.check(run(curve(HEALTHY[kind], steps))) is None


def test_validation_no_longer_falls() -> None:
    assert RULE.check(run(SLOW, np.array([2.3, 2.0, 1.8, 1.7, 1.7, 1.75, 1.8, 1.85]))) is None


def test_schedule_ended_at_its_floor() -> None:
    cosine = 0.05 * (1 + np.cos(np.pi * TIME))
    assert RULE.check(run(SLOW, rates=cosine)) is None


def test_not_finished_or_stopped_by_somebody() -> None:
    assert RULE.check(replace(run(SLOW), finished=False)) is None
    longer = Profile(planned_steps=4000)
    assert RULE.check(replace(run(SLOW), profile=longer)) is None


@pytest.mark.parametrize("losses", [[], [1.0], [float("nan")] * 100, [0.0] * 100])
def test_too_little_to_say(losses: list[float]) -> None:
    assert RULE.check(history(loss=losses, finished=True)) is None


def test_validation_of_numbers_slows_down_and_has_nothing_left() -> None:
    slows_down = 1.0 + 0.39 * 0.6 ** np.arange(8)
    goes_on = 1.4 - 0.05 * np.arange(8)
    losses = 1.0 + 0.5 * np.exp(-2 * TIME) + NOISE / 10
    assert RULE.check(run(losses, slows_down)) is None
    assert RULE.check(run(losses, goes_on)) is not None
