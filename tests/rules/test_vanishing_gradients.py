from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.profile import OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.signal import (
    EXPERIMENT_GRADIENT_THROUGH_TIME,
    GRADIENT_NORMS,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)
from lightning_plateau.rules.vanishing_gradients import VanishingGradients
from lightning_plateau.testing import history

NAN = float("nan")


def check(decades: Sequence[float], *, loss: float = 1.386, rows: int = 60, **facts: Any) -> Any:
    """Layers whose gradient over weight has these decades; weights of norm 4.6."""
    names = [f"net.{i}.weight" for i in range(len(decades))]
    shape = facts.pop("shape", (64, 64))
    profile = Profile(
        parameters=tuple(ParameterFact(name, name[:-7], shape) for name in names),
        optimizers=(OptimizerFact("SGD"),) * facts.pop("optimizers", 1),
    )
    series = {
        GRADIENT_NORMS: {n: [4.6 * 10.0**d] * rows for n, d in zip(names, decades, strict=True)},
        PARAMETER_NORMS: {n: [facts.get("weight", 4.6)] for n in names},
        UPDATE_RATIOS: {n: [facts.get("moved", 1e-8)] for n in names},
    }
    return VanishingGradients().check(history(series, loss=[loss] * rows, profile=profile))


# Measured on small networks at their start, rounded: decades of gradient over weight by depth.
@pytest.mark.parametrize(
    "decades",
    [
        pytest.param([-3.3, -2.7, -1.9, -0.4], id="3 sigmoid layers"),
        pytest.param([-5.0, -4.4, -3.6, -2.8, -1.9, -0.4], id="5 sigmoid layers"),
        pytest.param([-7.6, -6.9, -6.1, -5.3, -4.4, -3.6, -2.8, -1.9, -0.4], id="8 sigmoid layers"),
        pytest.param(np.linspace(-17.9, -0.4, 21), id="20 sigmoid layers"),
        pytest.param([-7.2, -7.2, -6.2, -4.9, -3.7, -2.5, -0.6], id="6 relu layers, tiny start"),
        pytest.param(
            [-7.2, -7.1, -7.0, -6.9, -6.6, -6.1, -5.5, -4.9, -4.5, -4.0, -3.3, -2.8, -1.7],
            id="12 gelu layers",
        ),
    ],
)
def test_speaks_on_deep_saturating_networks(decades: Sequence[float]) -> None:
    finding = check(decades)
    assert finding is not None
    assert finding.where == "net.0.weight"
    assert 0.6 <= finding.confidence <= 0.95


@pytest.mark.parametrize(
    "decades",
    [
        pytest.param([-2.6, -2.4, -2.4, -2.5, -2.3, -1.3], id="5 relu layers"),
        pytest.param([-0.4, -0.4, -0.5, -0.5, -0.6, -0.7, -0.9, -0.4], id="with batch norm"),
        pytest.param([-3.3, -3.2, -3.2, -3.1, -3.1, -2.9, -2.8, -2.6, -2.3, -2.1, -1.2], id="tanh"),
        pytest.param([-0.9, -1.7, -0.2, -1.7, -0.2, -1.8, -0.2, -0.6], id="zero-start residuals"),
        pytest.param([-0.9, -7.0, -0.2, -7.0, -0.2, -7.0, -0.2, -0.6], id="branches at rest"),
        pytest.param([-3.3, -3.1, -3.2, -3.3, -0.1], id="zero-start output layer"),
        pytest.param([-6.3, -3.1, -3.2, -3.3, -3.1], id="one saturated layer"),
        pytest.param([-0.4, -1.9, -2.8, -3.6, -4.4], id="the other way round"),
        pytest.param([-12.0] * 8, id="converged: small everywhere"),
        pytest.param([-5.0, -2.5, -0.4], id="too few layers to tell"),
        pytest.param([], id="no layers"),
    ],
)
def test_is_silent_on_healthy_networks(decades: Sequence[float]) -> None:
    assert check(decades) is None


VANISHING = [-5.0, -4.4, -3.6, -2.8, -1.9, -0.4]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"shape": (64,)}, id="biases and scales"),
        pytest.param({"optimizers": 2}, id="two networks"),
        pytest.param({"rows": 3}, id="too few steps"),
        pytest.param({"weight": NAN}, id="weights not measured"),
        pytest.param({"weight": 0.0}, id="weights of zero"),
        pytest.param({"loss": 1e-6}, id="the first layer still has leverage"),
    ],
)
def test_is_silent_where_it_cannot_know(facts: dict[str, Any]) -> None:
    assert check([-3.3, -2.7, -1.9, -0.4] if "loss" in facts else VANISHING, **facts) is None


def test_layers_without_gradient_are_left_to_another_rule() -> None:
    frozen = [-400.0, -400.0, *VANISHING]  # 10 ** −400 is exactly zero
    finding = check(frozen)
    assert finding is not None
    assert finding.where == "net.2.weight"
    assert check([-400.0, -400.0, -1.0, -1.1, -0.9, -1.0]) is None


def test_an_adaptive_optimizer_makes_it_less_sure() -> None:
    assert check(VANISHING, moved=1e-3).confidence < check(VANISHING, moved=1e-8).confidence


@pytest.mark.parametrize(("first", "told"), [(0.0, True), (1e-10, True), (1e-5, False)])
def test_gradients_that_fade_through_time(first: float, told: bool) -> None:
    row = {"rnn steps": [64.0], "rnn first": [first], "rnn largest": [1e-3]}
    found = VanishingGradients().check(
        history({EXPERIMENT_GRADIENT_THROUGH_TIME: row}, loss=[2.3] * 60)
    )
    assert (found is not None) is told
    if found is not None:
        assert found.where == "rnn"
        assert "64 steps" in found.message
