from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import (
    DATA_CONSTANT,
    DATA_MEAN,
    DATA_STD,
    FINGERPRINTED,
    REPEATED,
    VALIDATION_FINGERPRINTED,
    VALIDATION_REPEATED,
)
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.duplicate_samples import DuplicateSamples
from lightning_plateau.testing import history

RULE = DuplicateSamples()


def run(
    training: tuple[float, float],
    validation: tuple[float, float] = (0.0, 0.0),
    *,
    features: int = 64,
    size: int | None = 1000,
) -> History:
    """Return a history of ``(fingerprinted, repeated)`` samples with so many features."""
    x = Operand("batch", 0, "0", (8, features))
    fc = Operation(0, "linear", "fc", (x, Operand("parameter", name="w")), (8, 3))
    y = Operand("batch", 1, "1", (8,))
    loss = Operation(1, "cross_entropy", "", (Operand("operation", 0, shape=(8, 3)), y))
    signals: dict[Any, Any] = {
        FINGERPRINTED: [training[0]],
        REPEATED: [training[1]],
        VALIDATION_FINGERPRINTED: [validation[0]],
        VALIDATION_REPEATED: [validation[1]],
        DATA_MEAN: {"0": [0.0]},
        DATA_STD: {"0": [1.0]},
        DATA_CONSTANT: {"0": [0.1]},
    }
    profile = Profile(dataset_size=size)
    return history(signals, tapes=[Tape(0, (fc, loss), root=1)], profile=profile)


@pytest.mark.parametrize(
    "sick",
    [
        pytest.param(run((1000, 0), (200, 150)), id="most"),
        pytest.param(run((1000, 0), (200, 20)), id="a tenth"),
        pytest.param(run((1000, 0), (200, 20), features=4), id="a tenth, few features"),
        pytest.param(run((1000, 500), (200, 160)), id="oversampled before the split"),
        pytest.param(run((1000, 0), (1000, 20), size=10_000), id="a part was compared"),
        pytest.param(run((1000, 0), (200, 20), size=None), id="size unknown"),
    ],
)
def test_found(sick: History) -> None:
    finding = RULE.check(sick)
    assert finding is not None
    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("run", "word"),
    [
        pytest.param(run((1000, 0), (1000, 1000)), "on training data", id="the same set"),
        pytest.param(run((1000, 0), (200, 200)), "on training data", id="a part of the same set"),
        pytest.param(run((1000, 980)), "only 20 are distinct", id="an epoch of twenty samples"),
    ],
)
def test_noted(run: History, word: str) -> None:
    finding = RULE.check(run)
    assert finding is not None
    assert finding.severity is Severity.INFO
    assert word in finding.message


@pytest.mark.parametrize(
    "healthy",
    [
        pytest.param(run((1000, 0), (200, 0)), id="sound"),
        pytest.param(run((1000, 0), (200, 2)), id="two coincide"),
        pytest.param(run((1000, 0), (500, 10)), id="two in a hundred"),
        pytest.param(run((1000, 500)), id="oversampling"),
        pytest.param(run((1000, 370)), id="sampling with replacement"),
        pytest.param(run((1000, 400), (200, 150), features=4), id="samples coincide by nature"),
        pytest.param(run((1000, 990), features=2), id="the truth table of XOR"),
        pytest.param(run((40, 38)), id="few samples"),
        pytest.param(History(), id="empty"),
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None
