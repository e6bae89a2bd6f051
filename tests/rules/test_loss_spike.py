from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.signal import LEARNING_RATES, VALIDATION_LOSS
from lightning_plateau.rules.loss_spike import LossSpike
from lightning_plateau.testing import history
from tests.rules.curves import HEALTHY, Floats, curve

RULE = LossSpike()


def leaping(
    starts: tuple[int, ...], *, rows: int = 10, height: float = 4.0, fall: float = 0.0
) -> Floats:
    noise = np.random.default_rng(0).normal(0, 0.02, 800)
    losses = 1.0 - fall * np.arange(800) / 800 + noise
    for start in starts:
        losses[start : start + rows] += height
    return losses


THRICE = (200, 350, 500)


@pytest.mark.parametrize(
    ("losses", "severity"),
    [
        (leaping(THRICE), "warning"),
        (leaping(THRICE, fall=0.5), "info"),
        (leaping((300,)), "info"),
        (leaping(()), None),
        (leaping(THRICE, rows=3), None),
        (leaping(THRICE, height=0.5), None),
        (leaping((20, 50, 80)), None),
        (leaping((300,), rows=400), None),
        (leaping((700,), rows=100), "warning"),
        (leaping((300,), rows=500), "warning"),
        (leaping((770,), rows=30), "info"),
        (leaping((700,), rows=100, height=0.5), None),
        (1 - leaping((700,), rows=100), None),
        (-leaping(THRICE), None),
        (1e6 * leaping(THRICE), "warning"),
        (1e-6 * leaping(THRICE), "warning"),
    ],
)
def test_leaps(losses: Floats, severity: str | None) -> None:
    found = RULE.check(history(loss=losses))
    assert (None if found is None else found.severity) == severity
    assert found is None or bool(found.remedies) is (severity == "warning")


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("steps", [100, 600, 5000])
def test_healthy_curves_are_at_most_remarked_on(name: str, steps: int) -> None:
    found = RULE.check(history(loss=curve(HEALTHY[name], steps)))
    assert found is None or found.severity == "info"


STANDING = leaping((700,), rows=100)


def test_a_leap_that_the_loss_has_not_come_down_from_is_to_be_gone_back_from() -> None:
    found = RULE.check(history(loss=STANDING))
    assert found is not None
    assert (found.step, found.remedies) == (700, ("roll-back",))
    assert "has not come down in 100 steps" in found.message


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(
            {LEARNING_RATES: {"0": [0.01] * 698 + [0.1] * 102}}, id="the learning rate was raised"
        ),
        pytest.param({VALIDATION_LOSS: [2.0, *[1.0] * 799]}, id="validation holds"),
    ],
)
def test_no_leap_stands(more: dict[Any, Any]) -> None:
    found = RULE.check(history(more, loss=STANDING))
    assert found is None or found.severity == "info"


def test_leaps_of_a_training_that_is_done_are_remarked_on() -> None:
    losses = leaping(THRICE)
    losses[:50] += np.linspace(9, 0, 50)
    found = RULE.check(history(loss=losses))
    assert found is not None
    assert found.severity == "info"


def test_a_restart_of_the_learning_rate_is_no_leap() -> None:
    rates = np.full(800, 0.01)
    for start in THRICE:
        rates[start - 2 : start + 10] = 0.1
    run = history({LEARNING_RATES: {"0": rates}}, loss=leaping(THRICE))
    assert RULE.check(run) is None


def test_not_of_several_optimizers_nor_of_a_run_that_broke() -> None:
    several = Profile(optimizers=(OptimizerFact("Adam"),) * 2)
    assert RULE.check(history(loss=leaping(THRICE), profile=several)) is None
    assert RULE.check(history(loss=[*leaping(THRICE), np.nan])) is None
