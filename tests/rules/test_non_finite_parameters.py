from __future__ import annotations

import pytest

from lightning_plateau.core.signal import GRADIENT_NORM, PARAMETER_NORMS
from lightning_plateau.rules.non_finite_parameters import NonFiniteParameters
from lightning_plateau.testing import history

NAN, INF = float("nan"), float("inf")


def test_names_the_parameters_that_were_lost() -> None:
    norms = {"later": [NAN, NAN], "body": [1.0, NAN], "head": [1.0, 1.0]}
    run = history({PARAMETER_NORMS: norms}, loss=[2.0, NAN], every=1)
    finding = NonFiniteParameters().check(run)
    assert finding is not None
    assert (finding.where, finding.step) == ("body", 1)
    assert finding.message.startswith("1 of 3 parameters")


def test_leads_where_the_update_overflowed_first() -> None:
    series = {PARAMETER_NORMS: {"body": [1.0, NAN]}, GRADIENT_NORM: [1.0, 1.0, NAN]}
    finding = NonFiniteParameters().check(history(series, loss=[1.0, 1.0, NAN]))
    assert finding is not None
    assert {"LP201", "LP202"} <= set(finding.explains)


def test_parameters_that_were_never_finite() -> None:
    finding = NonFiniteParameters().check(history({PARAMETER_NORMS: {"w": [NAN]}}, loss=[NAN]))
    assert finding is not None


@pytest.mark.parametrize(
    ("norms", "loss"),
    [
        pytest.param({}, [NAN], id="nothing recorded"),
        pytest.param({"w": [1.0, 2.0]}, [1.0, 1.0], id="finite"),
        pytest.param({"w": [1.0, 2.0]}, [1.0, NAN], id="the loss alone broke"),
        pytest.param({"w": [NAN, 2.0]}, [1.0, 1.0], id="recorded late"),
        pytest.param({"unused": [NAN, NAN], "w": [1.0, 1.0]}, [1.0, 1.0], id="harmless"),
    ],
)
def test_is_silent(norms: dict[str, list[float]], loss: list[float]) -> None:
    assert NonFiniteParameters().check(history({PARAMETER_NORMS: norms}, loss=loss)) is None
