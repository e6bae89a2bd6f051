from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.trend import loss_trend, trend
from lightning_plateau.testing import history

NAN, INF = float("nan"), float("inf")
STEPS = np.arange(400.0)
NOISE = np.random.default_rng(0).standard_normal(400)

DIRECTIONS = [
    pytest.param(2.3 * 0.99**STEPS, "falling", id="geometric fall"),
    pytest.param(2.3 - 0.002 * STEPS + 0.1 * NOISE, "falling", id="fall in noise"),
    pytest.param(1.0 - 0.01 * STEPS, "falling", id="fall through zero"),
    pytest.param(-1.0 - 0.01 * STEPS, "falling", id="fall below zero"),
    pytest.param(1.0 + 0.01 * STEPS, "rising", id="rise"),
    pytest.param(np.where(STEPS < 200, 2.0 - STEPS / 200, STEPS / 100 - 1.0), "rising", id="turns"),
    pytest.param(2.3 + 0.0 * STEPS, "flat", id="constant"),
    pytest.param(2.3 + 0.1 * NOISE, "flat", id="noise"),
    pytest.param(2.3 - 1e-5 * STEPS, "flat", id="immaterial fall"),
    pytest.param(np.where(STEPS < 100, 2.3 - STEPS / 100, 1.3), "flat", id="fell long ago"),
    pytest.param(np.where(STEPS == 399, 1e9, 1.0 + 0.01 * NOISE), "flat", id="one spike"),
    pytest.param(0.0 * STEPS, "flat", id="zero"),
]


def direction(values: Any) -> str:
    found = trend(np.asarray(values))
    assert not (found.falling and found.rising)
    return "falling" if found.falling else "rising" if found.rising else "flat"


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9], ids="{:.0e}".format)
@pytest.mark.parametrize(("values", "expected"), DIRECTIONS)
def test_direction_whatever_the_scale(values: Any, expected: str, scale: float) -> None:
    assert direction(values * scale) == expected


@pytest.mark.parametrize("gap", [NAN, INF, -INF])
def test_values_that_are_not_finite_are_left_out(gap: float) -> None:
    values = 2.3 * 0.99**STEPS
    values[::10] = gap
    assert trend(values).rows == 360
    assert direction(values) == "falling"


@pytest.mark.parametrize("values", [[], [1.0], [NAN] * 9, [INF, 1.0]])
def test_too_little_to_tell(values: list[float]) -> None:
    found = trend(np.array(values))
    assert not any([found.falling, found.rising, found.material, found.significant])
    assert (found.rows, found.progress, found.relative_change) == (0, 0.0, 0.0)


def test_levels_forgive_spikes() -> None:
    values = np.linspace(2.0, 1.0, 100)
    values[[0, 50, 99]] = 1e6
    found = trend(values)
    assert found.highest < 2.0
    assert found.first == pytest.approx(1.98, abs=0.02)
    assert found.last == pytest.approx(1.02, abs=0.02)
    assert found.total_change == pytest.approx(-0.96, abs=0.04)


def test_progress_is_what_was_gained_at_best() -> None:
    values = np.concatenate([np.linspace(2.0, 1.0, 100), np.linspace(1.0, 2.0, 100)])
    assert trend(values).progress == pytest.approx(0.45, abs=0.06)


def test_extremes_of_float64_do_not_warn() -> None:
    with np.errstate(all="raise"):
        trend(np.array([1.7e308, -1.7e308] * 50))


def test_of_the_training_loss() -> None:
    assert loss_trend(history(loss=2.3 * 0.99**STEPS)).falling
    assert loss_trend(history()).rows == 0
