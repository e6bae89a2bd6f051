from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import (
    VALIDATION_LIKENESS,
    VALIDATION_LOSS,
    VALIDATION_SHIFT,
    VALIDATION_SPREAD,
)
from lightning_plateau.rules.differing_validation_inputs import DifferingValidationInputs
from lightning_plateau.testing import history
from tests.faults.observation import observe
from tests.faults.program import programs

RULE = DifferingValidationInputs()
WORSE = (2.0, 2.1, 2.3, 2.4)
AS_GOOD = (1.5, 1.0, 0.9, 0.8)


def run(
    shift: float = 2.0,
    spread: float = 1.0,
    likeness: float = 1.0,
    *,
    validation: tuple[float, ...] = WORSE,
) -> History:
    compared = {
        VALIDATION_SHIFT: {"a": [0.0, 0.1], "conv1": [0.1, shift]},
        VALIDATION_SPREAD: {"a": [1.0, 1.1], "conv1": [1.0, spread]},
        VALIDATION_LIKENESS: {"a": [1.0, 1.0], "conv1": [1.0, likeness]},
    }
    losses = np.linspace(1.8, 0.6, 160)
    return history({VALIDATION_LOSS: validation, **compared}, loss=losses, every=40)


@pytest.mark.parametrize(
    ("sick", "words"),
    [
        pytest.param(run(), "another scale", id="moved"),
        pytest.param(run(0.0, 0.004), "another scale", id="narrower"),
        pytest.param(run(22.0, 255.0), "another scale", id="bytes"),
        pytest.param(run(1.3, 1.0, 0.1), "another order of them", id="permuted"),
        pytest.param(run(1.3, 1.2, 0.7), "1.2 times as far", id="otherwise"),
    ],
)
def test_found(sick: History, words: str) -> None:
    found = RULE.check(sick)
    assert found is not None
    assert words in found.message
    assert found.where == "conv1"
    assert {"LP602", "LP801"} <= set(found.explains)


@pytest.mark.parametrize(
    "healthy",
    [
        pytest.param(run(0.5, 0.6), id="augmented, and worse"),
        pytest.param(run(3.0, validation=AS_GOOD), id="moved, and as good"),
        pytest.param(run(math.nan, math.nan, math.nan), id="nothing varies"),
        pytest.param(run(validation=()), id="no validation"),
        pytest.param(run(validation=(3.0,)), id="one validation"),
        pytest.param(run(1.0, 0.0), id="a constant"),
        pytest.param(History(), id="empty"),
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("standardized-pixels-for-training-alone", "LP111"),
        ("pixels-divided-in-the-training-step", "LP111"),
        ("transposed-images-in-validation", "LP111"),
        ("noise-and-shifts-for-training-alone", None),
        ("a-validation-sorted-by-class", None),
    ],
)
def test_in_real_trainings(name: str, first: str | None) -> None:
    [program] = [one for one in programs() if one.name == name]
    assert next(iter(observe(program).codes), None) == first
