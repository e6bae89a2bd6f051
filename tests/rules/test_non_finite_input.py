from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.signal import (
    DATA_MAXIMUM,
    DATA_MINIMUM,
    DATA_NON_FINITE,
    GRADIENT_NORM,
    LOSS_SCALE,
)
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.non_finite_input import NonFiniteInput
from lightning_plateau.testing import history

NAN, INF = float("nan"), float("inf")


def counts(*image: float) -> dict[str, list[float]]:
    return {"image": list(image), "label": [0.0] * len(image)}


def check(series: dict[Any, Any], loss: list[float], **facts: Any) -> Any:
    return NonFiniteInput().check(history(series, loss=loss, **facts))


@pytest.mark.parametrize(
    ("image", "loss", "step"),
    [
        ([3.0], [NAN], 0),
        ([0.0, 1.0], [2.0, NAN], 1),
        ([0.0, 0.0, 1.0], [2.0, 1.9, INF], 2),
    ],
)
def test_names_the_tensor_and_is_certain(image: list[float], loss: list[float], step: int) -> None:
    finding = check({DATA_NON_FINITE: counts(*image)}, loss)
    assert (finding.step, finding.where, finding.confidence) == (step, "batch[image]", 1.0)
    assert "LP201" in finding.explains


def test_gradients_that_broke_are_harm_too() -> None:
    finding = check({DATA_NON_FINITE: counts(1.0), GRADIENT_NORM: [NAN]}, [2.0])
    assert finding.certain


@pytest.mark.parametrize(
    ("series", "loss"),
    [
        pytest.param({DATA_NON_FINITE: counts(0.0, 0.0)}, [2.0, NAN], id="clean data"),
        pytest.param({DATA_NON_FINITE: counts(5.0, 5.0)}, [2.0, 1.9], id="handled by the program"),
        pytest.param({DATA_NON_FINITE: counts(5.0, 5.0)}, [2.0, NAN], id="handled, broke later"),
        pytest.param({DATA_NON_FINITE: counts(5.0)}, [], id="not known yet"),
        pytest.param(
            {DATA_NON_FINITE: counts(5.0), GRADIENT_NORM: [INF], LOSS_SCALE: [65536.0]},
            [2.0],
            id="the scaler looks for its scale",
        ),
        pytest.param({DATA_NON_FINITE: counts(NAN)}, [NAN], id="nothing measured"),
        pytest.param({}, [NAN], id="no data"),
    ],
)
def test_is_silent(series: dict[Any, Any], loss: list[float]) -> None:
    assert check(series, loss) is None


def test_is_not_certain_of_a_mask_of_minus_infinity() -> None:
    series = {
        DATA_NON_FINITE: counts(9.0),
        DATA_MINIMUM: {"image": [-INF]},
        DATA_MAXIMUM: {"image": [0.0]},
    }
    assert check(series, [NAN]).confidence < 1.0


def test_a_prediction_of_nan_is_harm_before_the_loss_returns() -> None:
    nan = Operand("operation", 0, statistics={"non_finite": 1.0, "minimum": NAN})
    target = Operand("batch", 1, "label")
    tape = Tape(0, (Operation(0, "linear"), Operation(1, "mse_loss", "", (nan, target))))
    assert check({DATA_NON_FINITE: counts(5.0)}, [], tapes=[tape]).certain
