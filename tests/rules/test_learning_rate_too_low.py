from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.signal import (
    EXPERIMENT_LEARNING_RATES,
    GRADIENT_NORMS,
    LEARNING_RATES,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)
from lightning_plateau.rules.learning_rate_too_low import LearningRateTooLow
from lightning_plateau.testing import history

RULE = LearningRateTooLow()
NOISE = np.random.default_rng(0).normal(0, 0.03, 300)
FLAT = 2.3 + NOISE
STEADY = 2.3 - 0.0003 * np.arange(300) + NOISE / 10
FALLING = 2.3 * np.exp(-np.arange(300) / 100) + NOISE


def run(
    ratio: float,
    loss: Any = FLAT,
    *,
    gradient: float = 0.5,
    kind: str = "SGD",
    rates: Any = (1e-5,),
    tried: dict[str, list[float]] | None = None,
) -> History:
    signals: dict[Any, Any] = {
        UPDATE_RATIOS: {"weight": [10 * ratio, ratio, ratio, ratio]},
        PARAMETER_NORMS: {"weight": [5.0] * 4},
        GRADIENT_NORMS: {"weight": [gradient] * 4},
        LEARNING_RATES: {"0": rates},
    }
    if tried is not None:
        signals[EXPERIMENT_LEARNING_RATES] = tried
    return history(signals, loss=loss, profile=Profile(optimizers=(OptimizerFact(kind),)))


@pytest.mark.parametrize(
    "too_low",
    [
        run(1e-7),
        run(5e-5),
        run(1e-7, kind="Adam", gradient=1e-9),
        run(3e-4, STEADY),
        run(1e-7, STEADY),
    ],
)
def test_found(too_low: History) -> None:
    assert RULE.check(too_low) is not None


@pytest.mark.parametrize(
    "other",
    [
        run(1e-3),
        run(3e-4),
        run(1e-7, FALLING),
        run(1e-7, gradient=1e-6),
        run(0.0),
        run(1e-7, rates=np.linspace(1e-8, 1e-5, 300)),
        run(1e-7, rates=np.linspace(1e-2, 1e-6, 300)),
        run(float("nan")),
        run(1e-7, []),
        History(),
    ],
    ids=[
        "ordinary",
        "flat in spite of moving",
        "the loss falls",
        "no gradient arrives",
        "nothing moves at all",
        "warm-up",
        "end of a schedule",
        "not measured",
        "no losses",
        "empty",
    ],
)
def test_silent(other: History) -> None:
    assert RULE.check(other) is None


def test_surer_where_the_loss_falls_steadily() -> None:
    flat, steady = RULE.check(run(1e-6)), RULE.check(run(1e-6, STEADY))
    assert flat is not None
    assert steady is not None
    assert steady.confidence > flat.confidence


def test_a_little_is_less_where_longer_steps_have_got_further() -> None:
    creeping = 2.3 - 0.0012 * np.arange(300) + NOISE / 10
    got = {"1": [2.2], "10": [2.1], "100": [1.5]}
    assert RULE.check(run(3e-4, creeping)) is None
    assert RULE.check(run(3e-4, creeping, tried={**got, "1": [1.4]})) is None
    found = RULE.check(run(3e-4, creeping, tried=got))
    assert found is not None
    assert found.fix.startswith("raise the learning rate: lr=0.001 in place of 1e-05")
    assert RULE.check(run(3e-4, FALLING, tried=got)) is None
