from __future__ import annotations

import math

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.signal import (
    GRADIENT_NORMS,
    PARAMETER_NORMS,
    UNIT_DIFFERENCES,
    UPDATE_RATIOS,
)
from lightning_plateau.rules.symmetric_initialization import SymmetricInitialization
from lightning_plateau.testing import history

RULE = SymmetricInitialization()
WEIGHT = "fc.weight"
PROFILE = Profile((ParameterFact(WEIGHT, "fc", (32, 8)), ParameterFact("fc.bias", "fc", (32,))))


def run(
    apart: list[float],
    moved: list[float] | None = None,
    norms: list[float] | None = None,
    gradients: list[float] | None = None,
) -> History:
    rows = len(apart)
    series = {
        UNIT_DIFFERENCES: {WEIGHT: apart, "fc.bias": [math.nan] * rows},
        UPDATE_RATIOS: {WEIGHT: moved or [0.01] * rows, "fc.bias": [0.01] * rows},
        PARAMETER_NORMS: {WEIGHT: norms or [1.0] * rows},
        GRADIENT_NORMS: {WEIGHT: gradients or [0.1] * rows},
    }
    return history(series, profile=PROFILE)


@pytest.mark.parametrize(
    ("sick", "certainty"),
    [
        (run([0.0, 0.0, 0.0]), "certain"),
        (run([0.0, 0.0]), "likely"),
        (run([0.0, 1e-7, 1e-6]), "certain"),
        (run([0.0] * 3, [math.inf, 0.1, 0.1]), "certain"),
        (run([0.0] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3), "certain"),
    ],
    ids=["same", "two rows", "rounding", "from zero", "stuck at zero"],
)
def test_identical(sick: History, certainty: str) -> None:
    found = RULE.check(sick)
    assert found is not None
    assert found.certainty == certainty
    assert found.where == WEIGHT


@pytest.mark.parametrize(
    "well",
    [
        run([2.0, 2.0, 2.0]),
        run([0.0, 0.1, 0.3], [math.inf, 0.1, 0.1]),
        run([0.0]),
        run([0.0] * 3, [0.0] * 3),
        run([1e-6] * 3, [1e-6] * 3),
        run([0.0] * 3, [0.0] * 3, [0.0] * 3, [0.1] * 3),
        run([0.0] * 3, [0.0] * 3, [0.0] * 3, [math.nan] * 3),
        run([math.nan] * 3),
        History(),
    ],
    ids=[
        "random", "grows apart", "one row", "not moved", "hardly moved", "zero with a gradient",
        "zero and frozen", "one unit", "empty",
    ],
)  # fmt: skip
def test_silent(well: History) -> None:
    assert RULE.check(well) is None
