from __future__ import annotations

from functools import partial

import pytest
from torch.optim import SGD

from lightning_plateau.core.signal import UPDATE_RATIOS
from lightning_plateau.remedies.raise_learning_rate import RaiseLearningRate
from lightning_plateau.testing import history
from lightning_plateau.training.run import Run
from tests.trainings import Guarding, Regressor, batches, fit


def run_with(lr: float) -> Run:
    guarding = Guarding()
    fit(Regressor(partial(SGD, lr=lr)), batches(3), guarding)
    return guarding.run


def test_the_factor_makes_updates_ordinary() -> None:
    run = run_with(1e-5)
    run.refresh(history({UPDATE_RATIOS: {"net.0.weight": [1e-6] * 4}}, loss=[1.0] * 40))
    assert RaiseLearningRate().apply(run).after == {"learning_rate": pytest.approx(5e-2)}


def test_a_factor_that_is_given_is_used() -> None:
    run = run_with(1e-5)
    RaiseLearningRate(factor=3.0).apply(run)
    assert run.learning_rates == {"learning_rate": pytest.approx(3e-5)}


def test_nothing_can_be_raised_from_zero() -> None:
    assert "is 0" in str(RaiseLearningRate().obstacle(run_with(0.0)))


@pytest.mark.parametrize("factor", [1.0, 0.5, float("inf"), float("nan")])
def test_the_factor_must_be_above_one(factor: float) -> None:
    with pytest.raises(
        ValueError, match=f"factor must be a finite number above 1, but is {factor}"
    ):
        RaiseLearningRate(factor=factor)
