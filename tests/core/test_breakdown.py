from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.breakdown import Breakdown, breakdown
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS, PARAMETER_NORMS
from lightning_plateau.testing import history

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("series", "origin"),
    [
        ({LOSS: [1.0, NAN], GRADIENT_NORM: [1.0, NAN]}, "loss"),
        ({LOSS: [1.0, 1.0, NAN], GRADIENT_NORM: [1.0, NAN, NAN]}, "gradients"),
        ({LOSS: [1.0, 1.0, NAN], PARAMETER_NORMS: {"w": [1.0, NAN, NAN]}}, "parameters"),
        ({LOSS: [1.0, NAN], PARAMETER_NORMS: {"w": [1.0, NAN]}}, "loss"),
        ({PARAMETER_NORMS: {"w": [1.0, INF]}}, "parameters"),
        ({PARAMETER_NORMS: {"w": [1.0, NAN]}}, None),
        ({LOSS: [1.0, 2.0]}, None),
        ({}, None),
    ],
)
def test_origin(series: dict[Any, Any], origin: str | None) -> None:
    assert breakdown(history(series)).origin == origin


def test_only_what_broke_first_explains_the_rest() -> None:
    broke = Breakdown(loss=5, gradients=5, parameters=10)
    assert broke.explained_by("loss") == ("LP202", "LP203")
    assert broke.explained_by("gradients") == ()
    assert Breakdown().explained_by("loss") == ()
