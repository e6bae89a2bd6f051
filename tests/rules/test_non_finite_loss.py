from __future__ import annotations

import pytest

from lightning_plateau.core.signal import GRADIENT_NORM
from lightning_plateau.rules.non_finite_loss import NonFiniteLoss
from lightning_plateau.testing import history

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("loss", "step"),
    [([NAN], 0), ([2.0, INF], 1), ([2.0, 1.0, NAN, NAN], 2), ([1.0] * 50 + [NAN] + [1.0] * 50, 50)],
)
def test_names_the_first_step(loss: list[float], step: int) -> None:
    finding = NonFiniteLoss().check(history(loss=loss))
    assert finding is not None
    assert finding.step == step
    assert not finding.certain, "a certain symptom would rank before its cause"


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param([], id="empty"),
        pytest.param([2.0], id="one step"),
        pytest.param([1e30, -1e30], id="large"),
        pytest.param([1.0] * 500 + [NAN] + [1.0] * 150, id="recovered"),
    ],
)
def test_is_silent(loss: list[float]) -> None:
    assert NonFiniteLoss().check(history(loss=loss)) is None


def test_a_loss_that_nobody_saw_is_not_nan() -> None:
    run = history({GRADIENT_NORM: [1.0, 1.1, 0.9]}, loss=[NAN, NAN, NAN])
    assert NonFiniteLoss().check(run) is None


def test_leaves_the_lead_to_gradients_that_broke_before() -> None:
    finding = NonFiniteLoss().check(history({GRADIENT_NORM: [1.0, NAN, NAN]}, loss=[1, 1, NAN]))
    assert finding is not None
    assert "LP202" not in finding.explains
    finding = NonFiniteLoss().check(history({GRADIENT_NORM: [1.0, 1.0, NAN]}, loss=[1, 1, NAN]))
    assert finding is not None
    assert "LP202" in finding.explains
