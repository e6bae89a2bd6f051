from __future__ import annotations

import pytest

from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS, LOSS_SCALE, PARAMETER_NORMS
from lightning_plateau.rules.non_finite_gradients import NonFiniteGradients
from lightning_plateau.testing import history

NAN, INF = float("nan"), float("inf")


def test_names_the_parameters_and_knows_the_absent_ones() -> None:
    norms = {"unused": [NAN, NAN], "body": [1.0, NAN], "head": [1.0, 1.0]}
    run = history({GRADIENT_NORM: [1.4, NAN], GRADIENT_NORMS: norms}, loss=[2.0, 2.0])
    finding = NonFiniteGradients().check(run)
    assert finding is not None
    assert finding.message == "the gradients of 1 of 2 parameters are not finite at step 1: body"
    assert finding.where == "body"
    assert "epsilon" in finding.fix
    assert "LP201" not in finding.explains, "the loss did not break"


def test_explains_the_loss_that_broke_after_it() -> None:
    finding = NonFiniteGradients().check(history({GRADIENT_NORM: [1, NAN, NAN]}, loss=[1, 1, NAN]))
    assert finding is not None
    assert "LP201" in finding.explains


def test_at_the_first_step_names_what_it_can() -> None:
    norms = {"body": [INF], "head": [1.0]}
    finding = NonFiniteGradients().check(history({GRADIENT_NORM: [INF], GRADIENT_NORMS: norms}))
    assert finding is not None
    assert finding.where == "body"


def test_many_parameters_are_counted() -> None:
    norms = {f"p{i}": [1.0, NAN] for i in range(9)}
    run = history({GRADIENT_NORM: [1.0, NAN], GRADIENT_NORMS: norms}, loss=[1.0, NAN])
    finding = NonFiniteGradients().check(run)
    assert finding is not None
    assert finding.message.endswith("p0, p1, p2 and 6 more")


@pytest.mark.parametrize(
    ("norm", "scale"),
    [
        pytest.param([], [], id="empty"),
        pytest.param([1.0, 1e30, 0.0], [], id="finite"),
        pytest.param([INF, INF, 1.0, 1.0], [65536.0] * 4, id="the scaler finds its scale"),
        pytest.param([1.0] * 400 + [NAN] + [1.0] * 120, [], id="recovered"),
    ],
)
def test_is_silent(norm: list[float], scale: list[float]) -> None:
    series = {GRADIENT_NORM: norm, LOSS_SCALE: scale}
    assert NonFiniteGradients().check(history(series, loss=[1.0] * len(norm))) is None


def test_mixed_precision_of_16_bits_means_a_scaler() -> None:
    profile = Profile(precision="16-mixed")
    run = history({GRADIENT_NORM: [INF, INF, 1.0]}, loss=[1.0] * 3, profile=profile)
    assert NonFiniteGradients().check(run) is None


def test_a_scaler_that_never_finds_its_scale() -> None:
    series = {GRADIENT_NORM: [1.0, INF, INF, INF], LOSS_SCALE: [4.0, 2.0, 1.0, 0.5]}
    finding = NonFiniteGradients().check(history(series, loss=[1.0] * 4))
    assert finding is not None
    assert finding.step == 1


@pytest.mark.parametrize(("weights", "leads"), [([NAN, NAN], False), ([1.0, NAN], True)])
def test_parameters_that_broke_first_are_no_consequence(weights: list[float], leads: bool) -> None:
    series = {GRADIENT_NORM: [1.0, NAN], PARAMETER_NORMS: {"w": weights}}
    finding = NonFiniteGradients().check(history(series, loss=[1.0, NAN]))
    assert finding is not None
    assert ("LP203" in finding.explains) is leads
