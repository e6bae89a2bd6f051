from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.signal import DATA_NON_FINITE, GRADIENT_NORM, UPDATE_RATIOS
from lightning_plateau.rules.exploding_gradients import ExplodingGradients
from lightning_plateau.testing import history

NAN, INF = float("nan"), float("inf")
STEPS = np.arange(300.0)
RANDOM = np.random.default_rng(0)
JITTER = RANDOM.lognormal(0.0, 0.3, 300)
FLAT = 2.3 + 0.02 * RANDOM.standard_normal(300)


def check(norm: Any, loss: Any, **series: Any) -> Any:
    return ExplodingGradients().check(history({GRADIENT_NORM: norm}, loss=loss))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6], ids="{:.0e}".format)
@pytest.mark.parametrize(
    ("norm", "loss"),
    [
        pytest.param(
            JITTER * 1.03**STEPS, 1.0 + 0.01 * 1.03**STEPS, id="steady growth, loss rises"
        ),
        pytest.param(
            JITTER * np.where(STEPS > 200, 500.0, 1.0),
            FLAT + np.where(STEPS > 200, 5.0, 0.0),
            id="a lasting jump, loss jumps",
        ),
        pytest.param(
            np.concatenate([JITTER[:100], [30.0, 900.0, 1e7, NAN]]),
            np.concatenate([FLAT[:100], [2.5, 4.0, 1e3, NAN]]),
            id="few steps, then NaN",
        ),
        pytest.param([1.0, 5.0, 100.0, 1e4, INF], [2.0, 2.0, 9.0, 1e3, NAN], id="five steps"),
    ],
)
def test_speaks_whatever_the_scale(norm: Any, loss: Any, scale: float) -> None:
    finding = check(np.asarray(norm) * scale, loss)
    assert finding is not None
    assert 0.5 < finding.confidence < 1.0
    assert finding.evidence[0].value > 10 * finding.evidence[1].value


@pytest.mark.parametrize(
    ("norm", "loss"),
    [
        pytest.param([], [], id="empty"),
        pytest.param([1.0], [2.3], id="one step"),
        pytest.param([NAN] * 9, [NAN] * 9, id="never finite"),
        pytest.param([1.0] * 9 + [NAN], [2.0] * 9 + [NAN], id="broke without growth"),
        pytest.param(JITTER, FLAT, id="flat but steady"),
        pytest.param(JITTER, 2.3 * 0.99**STEPS, id="healthy"),
        pytest.param(JITTER * 1.03**STEPS, 2.3 * 0.97**STEPS, id="grows while the loss falls"),
        pytest.param(
            JITTER * np.minimum(1.1**STEPS, 50.0),
            np.where(STEPS < 50, 2.3, 2.3 * 0.98 ** (STEPS - 50)) + 0.01 * JITTER,
            id="early growth out of a plateau",
        ),
        pytest.param(JITTER * np.where(STEPS == 150, 1e4, 1.0), FLAT, id="a single spike"),
        pytest.param(JITTER * np.where(STEPS >= 299, 1e4, 1.0), FLAT, id="a spike at the end"),
        pytest.param(
            JITTER * np.where((STEPS > 100) & (STEPS < 130), 1e3, 1.0),
            FLAT + 0.02 * STEPS,
            id="came down again",
        ),
        pytest.param(RANDOM.lognormal(0.0, 3.0, 300), FLAT + 0.01 * STEPS, id="wild all along"),
        pytest.param(1e6 * JITTER, FLAT, id="large but steady"),
        pytest.param(np.zeros(300), FLAT, id="zero"),
    ],
)
def test_is_silent(norm: Any, loss: Any) -> None:
    assert check(norm, loss) is None


def at_once(ratio: float, bad: float = 0.0) -> Any:
    series = {
        GRADIENT_NORM: [1e9, NAN],
        UPDATE_RATIOS: {"a": [ratio], "b": [ratio], "zero": [INF]},
        DATA_NON_FINITE: {"image": [bad]},
    }
    return ExplodingGradients().check(history(series, loss=[1e5, NAN]))


def test_a_run_that_breaks_at_once() -> None:
    assert at_once(1e4) is not None
    assert at_once(1e-3) is None, "the first update was modest"
    assert at_once(1e4, bad=2.0) is None, "the data broke it"
