from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.core.profile import Profile
from lightning_plateau.rules.oscillating_loss import OscillatingLoss
from lightning_plateau.testing import history
from tests.rules.curves import HEALTHY, Curve, curve

RULE = OscillatingLoss()
SWINGING: dict[str, Curve] = {
    "to and fro": lambda t, n: 1 + 0.3 * (-1.0) ** np.arange(len(t)),
    "to and fro, with noise": lambda t, n: (
        1 + 0.3 * (-1.0) ** np.arange(len(t)) + n(0, 0.1, t.shape)
    ),
    "to and fro, tiny": lambda t, n: 1e-9 * (1 + 0.3 * (-1.0) ** np.arange(len(t))),
    "wider and wider": lambda t, n: 1 + t * (-1.0) ** np.arange(len(t)),
}


@pytest.mark.parametrize("steps", [40, 300])
@pytest.mark.parametrize("kind", SWINGING)
def test_swinging(kind: str, steps: int) -> None:
    assert RULE.check(history(loss=curve(SWINGING[kind], steps))) is not None


def test_slow_swings_in_full_batches() -> None:
    losses = 1 + 0.5 * np.sin(np.arange(100) / 2)
    assert RULE.check(history(loss=losses, profile=Profile(batches_per_epoch=1))) is not None
    assert RULE.check(history(loss=losses)) is None, "mini-batches may be as unlike as that"


@pytest.mark.parametrize("steps", [30, 300, 3000])
@pytest.mark.parametrize("kind", HEALTHY)
def test_healthy(kind: str, steps: int) -> None:
    found = [RULE.check(history(loss=curve(HEALTHY[kind], steps, seed))) for seed in range(5)]
    assert not any(found)


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("steps", [30, 100, 1000])
def test_noise_of_mini_batches_is_no_swing(steps: int, spread: float) -> None:
    random = np.random.default_rng(0)
    runs = [np.exp(random.normal(0, spread, steps)) for _ in range(40)]
    assert sum(RULE.check(history(loss=losses)) is not None for losses in runs) == 0


@pytest.mark.parametrize("per_epoch", [2, 3, 5, 20])
def test_batches_in_a_fixed_order_are_no_swing(per_epoch: int) -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        losses = np.tile(np.exp(random.normal(0, 0.5, per_epoch)), 40)
        run = history(loss=losses, profile=Profile(batches_per_epoch=per_epoch))
        assert RULE.check(run) is None


@pytest.mark.parametrize("losses", [[], [1.0], [float("nan")] * 50, [1.0, 2.0] * 5])
def test_too_little_to_say(losses: list[float]) -> None:
    assert RULE.check(history(loss=losses)) is None
