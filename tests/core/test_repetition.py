"""Which samples come again."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.repetition import coincide_by_chance, distinct_samples, repetition
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
from lightning_plateau.testing import history

NAN = float("nan")


def run(seen: float, repeated: float, of: Any = (), again: Any = (), **facts: Any) -> History:
    signals = {
        FINGERPRINTED: [seen],
        REPEATED: [repeated],
        VALIDATION_FINGERPRINTED: of,
        VALIDATION_REPEATED: again,
    }
    return history(signals, profile=Profile(**facts))


def test_the_validation_with_the_most_overlap_counts() -> None:
    found = repetition(run(100.0, 0.0, [50.0, 50.0, 50.0], [0.0, 20.0, 10.0]))
    assert (found.validation_seen, found.validation_repeated, found.leak) == (50.0, 20.0, 0.4)


def test_what_was_not_compared_is_extrapolated() -> None:
    found = repetition(run(100.0, 0.0, [50.0], [5.0], dataset_size=1000))
    assert found.coverage == pytest.approx(0.1)
    assert found.leak == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [run(NAN, 1.0), run(10.0, NAN, [NAN], [1.0]), History()])
def test_what_is_unknown_counts_as_nothing(bad: History) -> None:
    assert repetition(bad).leak == 0.0
    assert repetition(bad).share == 0.0


def test_distinct_samples() -> None:
    assert distinct_samples(run(100.0, 80.0, dataset_size=1000)) == pytest.approx(200.0)
    assert distinct_samples(run(100.0, 0.0)) is None
    assert distinct_samples(run(64.0, 0.0, dataset_size=60_000, batches_per_epoch=2)) == 60_000.0


def leaf(features: int, mean: float, std: float, constant: float = 0.0) -> History:
    x = Operand("batch", 0, "0", (8, features))
    fc = Operation(0, "linear", "fc", (x, Operand("parameter", name="w")), (8, 3))
    y = Operand("batch", 1, "1", (8,))
    loss = Operation(1, "cross_entropy", "", (Operand("operation", 0, shape=(8, 3)), y))
    series = {DATA_MEAN: mean, DATA_STD: std, DATA_CONSTANT: constant}
    columns = {signal: {"0": [value]} for signal, value in series.items()}
    return history(columns, tapes=[Tape(0, (fc, loss), root=1)])


@pytest.mark.parametrize(
    ("run", "by_chance"),
    [
        (leaf(64, 0.1, 0.9), False),
        (leaf(64, 0.3, 0.2), False),
        (leaf(4, 0.0, 1.0), True),
        (leaf(64, 0.0, 1.0, constant=0.9), True),
        (leaf(500, 0.2, 0.4), True),  # zeros and ones: the variance is that of a coin
        (History(), True),
    ],
    ids=["standardized", "pixels", "few features", "mostly constant", "binary", "unknown"],
)
def test_samples_may_coincide(run: History, by_chance: bool) -> None:
    assert coincide_by_chance(run) is by_chance
