from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import BATCH_SIZE, NORMALIZATION_VALUES, Signal
from lightning_plateau.core.tape import Operation, Tape
from lightning_plateau.diagnosis import diagnose
from lightning_plateau.rules.batch_too_small_for_batch_norm import BatchTooSmallForBatchNorm
from lightning_plateau.testing import history

RULE = BatchTooSmallForBatchNorm()


def run(values: float, samples: float, training: bool = True) -> History:
    tape = Tape(0, (Operation(0, "batch_norm", "bn", attributes={"training": training}),))
    signals: dict[Signal, Any] = {
        NORMALIZATION_VALUES: {"bn": [values] * 3},
        BATCH_SIZE: [samples] * 3,
    }
    return history(signals, tapes=[tape])


@pytest.mark.parametrize(
    ("values", "samples", "confidence"),
    [(2, 2, 0.9), (1, 1, 0.9), (4, 4, 0.7), (2 * 49, 2, 0.5)],
)
def test_found(values: float, samples: float, confidence: float) -> None:
    found = RULE.check(run(values, samples))
    assert found is not None
    assert found.confidence == confidence


@pytest.mark.parametrize(
    "healthy",
    [run(32, 32), run(8, 8), run(8 * 49, 8), run(2, 2, training=False), History()],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


def test_one_small_last_batch_is_not_the_usual_one() -> None:
    signals = {NORMALIZATION_VALUES: {"bn": [32.0, 32.0, 2.0]}}
    assert RULE.check(history(signals)) is None


@pytest.mark.parametrize(
    ("size", "values", "told"),
    [(97, 32, True), (96, 32, False), (98, 32, False), (97, 32 * 49, False)],
)
def test_a_last_batch_of_one_sample(size: int, values: float, told: bool) -> None:
    profile = Profile(dataset_size=size, batches_per_epoch=-(-size // 32))
    found = RULE.check(replace(run(values, 32), profile=profile))
    assert (found is not None) is told
    if found is not None:
        assert found.certain
        assert "1 of the 97 samples" in found.message


def test_a_last_batch_that_is_dropped_is_none() -> None:
    profile = Profile(dataset_size=97, batches_per_epoch=3)
    assert RULE.check(replace(run(32, 32), profile=profile)) is None


def test_while_the_loss_falls_it_is_a_remark() -> None:
    falling = replace(run(2, 2), series={**run(2, 2).series, **_falling().series})
    assert [one.severity for one in diagnose(falling) if one.code == "LP601"] == [Severity.INFO]


def _falling() -> History:
    return history(loss=[0.99**step for step in range(300)])
