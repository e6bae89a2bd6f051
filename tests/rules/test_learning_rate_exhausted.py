from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import LEARNING_RATES
from lightning_plateau.rules.learning_rate_exhausted import LearningRateExhausted
from lightning_plateau.testing import history

RULE = LearningRateExhausted()
ALL = np.arange(400)
Rates = np.ndarray[tuple[int], np.dtype[np.float64]]


def run(rates: Rates, planned: int | None = 400) -> History:
    profile = Profile(planned_steps=planned)
    series = {LEARNING_RATES: {"0": 0.1 * rates}}
    return history(series, loss=[2.3] * len(rates), profile=profile)


@pytest.mark.parametrize("planned", [400, None])
@pytest.mark.parametrize(
    "rates", [0.1 ** (ALL // 40), 0.95**ALL, np.clip(1 - ALL / 100, 0, 1), 0.1 ** (ALL // 60)]
)
def test_spent_for_long(rates: Rates, planned: int | None) -> None:
    found = RULE.check(run(rates, planned))
    assert found is not None
    assert not found.certain


@pytest.mark.parametrize(
    "rates",
    [
        np.ones(400),
        (1 + np.cos(np.pi * ALL / 400)) / 2,
        np.minimum(1.0, (ALL + 1) / 100),
        0.1 ** (ALL // 170),
        np.where(ALL % 100 < 95, 1.0, 0.001),
        0.99**ALL + 0.02,
        np.zeros(400),
    ],
)
def test_silent(rates: Rates) -> None:
    assert RULE.check(run(rates)) is None


def test_not_yet_for_long() -> None:
    assert RULE.check(run(np.r_[np.ones(40), np.full(60, 0.001)])) is None
    assert RULE.check(run(np.r_[np.ones(4), np.full(30, 0.001)], planned=40)) is None
