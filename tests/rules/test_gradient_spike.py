from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import GRADIENT_NORM
from lightning_plateau.rules.gradient_spike import GradientSpike
from lightning_plateau.testing import history

RULE = GradientSpike()


def run(
    spikes: tuple[int, ...],
    *,
    size: float = 100.0,
    rise: float = 0.0,
    fall: float = 0.0,
    spread: float = 0.2,
) -> History:
    random = np.random.default_rng(0)
    norms = random.lognormal(0, spread, 600)
    losses = 1.0 + fall * np.linspace(1, 0, 600) + random.normal(0, 0.02, 600)
    for spike in spikes:
        norms[spike] *= size
        losses[spike + 1 :] += rise
    return history({GRADIENT_NORM: norms}, loss=losses)


@pytest.mark.parametrize(
    ("made", "severity"),
    [
        (run((300,), rise=1.0), "warning"),
        (run((300,)), None),
        (run((200, 300, 400)), "warning"),
        (run((200, 300, 400), fall=0.5), "info"),
        (run((200, 300, 400), fall=5.0), "info"),
        (run((200, 300, 400), size=3.0), None),
        (run((), spread=1.5), None),
        (run((50,), rise=1.0), None),
        (run((300,), rise=0.1), None),
        (run(tuple(range(300, 600))), None),
    ],
)
def test_spikes(made: History, severity: str | None) -> None:
    found = RULE.check(made)
    assert (None if found is None else found.severity) == severity
    assert found is None or bool(found.remedies) is (severity == "warning")


def test_a_loss_that_comes_down_again_was_not_thrown_back() -> None:
    random = np.random.default_rng(0)
    norms, losses = random.lognormal(0, 0.2, 600), np.ones(600)
    norms[300] *= 100
    losses[301:350] = np.linspace(3, 1, 49)
    assert RULE.check(history({GRADIENT_NORM: norms}, loss=losses)) is None
