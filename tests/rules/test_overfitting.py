from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import VALIDATION_LOSS
from lightning_plateau.rules.overfitting import Overfitting
from lightning_plateau.testing import history

RULE = Overfitting()
PER = 20


def run(training: list[float], validation: list[float], noise: float = 0.0) -> History:
    random = np.random.default_rng(0)
    losses = np.repeat(training, PER) + random.normal(0, noise, PER * len(training))
    moved = [validation[0], *validation]  # the first validation lies at step 0: nobody has trained
    return history({VALIDATION_LOSS: moved[: len(training)]}, loss=losses, every=PER)


FALLING = [2.3 * 0.75**epoch for epoch in range(14)]


@pytest.mark.parametrize(
    "sick",
    [
        run(FALLING, [2.0, 1.6, 1.3, 1.1, 1.15, 1.25, 1.4, 1.6, 1.8, 2.0, 2.3, 2.6, 2.9, 3.2]),
        run(FALLING, [1.0 + 0.2 * epoch for epoch in range(14)]),
        run(FALLING, [2.0, 1.2, 0.8, 0.85, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8], 0.1),
    ],
    ids=["after four epochs", "from the start", "with noisy training"],
)
def test_found(sick: History) -> None:
    assert RULE.check(sick) is not None


@pytest.mark.parametrize(
    "healthy",
    [
        run(FALLING, [1.1 * loss for loss in FALLING]),
        run(FALLING, [*FALLING[:6], *[0.55, 0.56, 0.55, 0.54, 0.56, 0.55, 0.56, 0.55]]),
        run(FALLING, [*FALLING[:8], *[0.10, 0.11, 0.13, 0.14, 0.15, 0.16]]),
        run([2.0] * 14, [2.0 + 0.1 * epoch for epoch in range(14)]),
        run(FALLING, [1.0, 1.4, 0.8, 1.3, 0.7, 1.5, 0.9, 1.2, 1.0, 1.3, 0.8, 1.4, 0.9, 1.2]),
        run(FALLING[:3], [1.0, 2.0, 3.0]),
        run([1.1 * loss for loss in FALLING], FALLING),
        History(),
    ],
    ids=[
        "both fall",
        "validation levels off",
        "a rise small beside the start",
        "training does not fall",
        "noise",
        "too few validations",
        "validation below training",
        "empty",
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None
