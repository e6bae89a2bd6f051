from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.history import History, Series
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.signal import (
    BATCH_SIZE,
    FINGERPRINTED,
    LABEL_COUNTS,
    REPEATED,
    VALIDATION_LOSS,
)
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.too_little_data import TooLittleData
from lightning_plateau.testing import history

RULE = TooLittleData()


def tape(classes: int) -> Tape:
    x, weight = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="fc.weight")
    fc = Operation(0, "linear", "fc", (x, weight), (8, classes or 1))
    made = Operand("operation", 0, shape=(8, classes or 1))
    target = Operand("batch", 1, "1", (8,), statistics={"mean": 0.0, "std": 1.0})
    return Tape(
        0,
        (fc, Operation(1, "cross_entropy" if classes else "mse_loss", "", (made, target))),
        root=1,
    )


def run(
    size: int | None,
    best: float,
    *,
    classes: int = 0,
    now: float = 0.01,
    parameters: int = 5000,
    finished: bool = True,
    repeated: float = 0.0,
    batches: int | None = None,
) -> History:
    """Return a history whose validation loss was ``best`` at best, in units of guessing."""
    chance = np.log(classes) if classes else 1.0
    series: dict[Any, Any] = {
        VALIDATION_LOSS: chance * np.array([0.98, 0.9, best, best, 1.1 * best]),
        FINGERPRINTED: [1000.0],
        REPEATED: [1000.0 * repeated],
        BATCH_SIZE: [8.0] * 5,
    }
    if classes:
        series[LABEL_COUNTS] = {str(label): [10.0] for label in range(classes)}
    profile = Profile(
        (ParameterFact("w", "", (parameters,)),), dataset_size=size, batches_per_epoch=batches
    )
    return history(
        series,
        loss=chance * np.geomspace(1.0, now, 100),
        every=24,
        profile=profile,
        tapes=[tape(classes)],
        finished=finished,
    )


@pytest.mark.parametrize(
    "sick",
    [
        pytest.param(run(40, 0.7), id="forty numbers"),
        pytest.param(run(60, 0.5, classes=10), id="six a class"),
        pytest.param(run(5000, 0.7, repeated=0.995), id="the same few again and again"),
    ],
)
def test_found(sick: History) -> None:
    finding = RULE.check(sick)
    assert finding is not None
    assert not finding.certain


@pytest.mark.parametrize(
    "healthy",
    [
        pytest.param(run(40, 0.1), id="small data that carry over"),
        pytest.param(run(5000, 0.7), id="enough data"),
        pytest.param(run(500, 0.5, classes=10), id="fifty a class"),
        pytest.param(run(40, 0.7, parameters=300), id="a small model"),
        pytest.param(run(40, 0.7, now=0.5), id="not learned yet"),
        pytest.param(run(40, 0.7, finished=False), id="under way"),
        pytest.param(run(60_000, 0.7, batches=5), id="a part of each epoch, on purpose"),
        pytest.param(run(None, 0.7), id="size unknown"),
        pytest.param(run(40, float("nan")), id="no validation"),
        pytest.param(History(), id="empty"),
        pytest.param(run(60_000, 0.7, batches=1), id="one batch by heart, as a test"),
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


def test_validation_that_still_comes_down_has_not_been_left_behind() -> None:
    sick = run(40, 0.7)
    falling = Series(VALIDATION_LOSS, np.arange(0, 100, 20), np.array([0.98, 0.95, 0.9, 0.8, 0.6]))
    late = replace(sick, series={**sick.series, VALIDATION_LOSS.tag: falling})
    assert RULE.check(sick) is not None
    assert RULE.check(late) is None
