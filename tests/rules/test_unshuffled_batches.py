from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import (
    BATCH_SIZE,
    DATA_MEAN,
    DATA_STD,
    LABEL_COUNTS,
    VALIDATION_LOSS,
)
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.unshuffled_batches import UnshuffledBatches
from lightning_plateau.testing import history

RULE = UnshuffledBatches()
RANDOM = np.random.default_rng(0)


def tape(batch: int, classes: int, per_sample: int = 1) -> Tape:
    x, weight = Operand("batch", 0, "0", (batch, 4)), Operand("parameter", name="fc.weight")
    fc = Operation(0, "linear", "fc", (x, weight), (batch, classes or 1))
    shape = (batch, per_sample) if per_sample > 1 else (batch,)
    seen = {"mean": 0.0, "std": 1.0}
    target = Operand("batch", 1, "1", shape, statistics=seen)
    loss = "cross_entropy" if classes else "mse_loss"
    made = Operand("operation", 0, shape=(batch, classes) if classes else (batch,))
    return Tape(0, (fc, Operation(1, loss, "", (made, target))), root=1)


def run(order: Any, batch: int = 32, *, loss: float = 0.1, per_sample: int = 1, **facts: Any):
    """Return a history of labels that are read in ``order``."""
    order = np.asarray(order)
    rows = order[: len(order) // batch * batch].reshape(-1, batch)
    classes = int(order.max()) + 1
    counts = {str(label): (rows == label).sum(axis=1) for label in range(classes)}
    return history(
        {LABEL_COUNTS: counts, VALIDATION_LOSS: [loss]},
        loss=np.full(max(100, len(rows)), loss),
        tapes=[tape(batch, classes, per_sample)],
        profile=Profile(**facts),
    )


def numbers(values: Any, loss: float, batch: int = 32, **facts: Any) -> History:
    rows = np.asarray(values).reshape(-1, batch)
    series: dict[Any, Any] = {
        DATA_MEAN: {"1": rows.mean(axis=1)},
        DATA_STD: {"1": rows.std(axis=1)},
        BATCH_SIZE: np.full(len(rows), batch),
    }
    profile = Profile(**facts)
    return history(series, loss=[loss] * 100, tapes=[tape(batch, 0)], profile=profile)


MIXED = RANDOM.integers(10, size=3200)
SORTED = np.sort(MIXED)
BLOCKS = np.repeat(RANDOM.permutation(np.arange(400) % 10), 8)  # four runs of eight in a batch
VALUES = RANDOM.normal(size=3200)


@pytest.mark.parametrize(
    "sick",
    [
        pytest.param(run(SORTED), id="sorted"),
        pytest.param(run(SORTED, shuffled=False), id="known not to shuffle"),
        pytest.param(run(SORTED, 1), id="sorted, batches of one"),
        pytest.param(run(np.sort(np.arange(400) % 2), 16), id="two classes"),
        pytest.param(run(BLOCKS, loss=2.2), id="runs within batches, failing"),
        pytest.param(numbers(np.sort(VALUES), 1.3), id="sorted numbers, failing"),
    ],
)
def test_found(sick: History) -> None:
    finding = RULE.check(sick)
    assert finding is not None
    assert "shuffle=True" in finding.fix


@pytest.mark.parametrize(
    "healthy",
    [
        pytest.param(run(MIXED), id="shuffled"),
        pytest.param(run(MIXED, shuffled=False), id="fixed order that is random"),
        pytest.param(run(MIXED, 1, loss=2.3), id="shuffled, batches of one"),
        pytest.param(run(np.arange(3200) % 10, loss=2.3), id="balanced batches"),
        pytest.param(run(BLOCKS, loss=0.2), id="runs within batches, learning"),
        pytest.param(run(SORTED, shuffled=True), id="the loader shuffles"),
        pytest.param(run(SORTED, per_sample=5), id="several targets a sample"),
        pytest.param(run(np.sort(RANDOM.random(3200) < 0.03), loss=0.2), id="one class in all"),
        pytest.param(run(np.zeros(3200, dtype=int)), id="a single class"),
        pytest.param(run(np.repeat([0, 1], 64)), id="few batches"),
        pytest.param(numbers(VALUES, 1.3), id="shuffled numbers"),
        pytest.param(numbers(np.sort(VALUES), 0.2), id="sorted numbers, learning"),
        pytest.param(numbers(np.sort(VALUES), 1.3, shuffled=True), id="shuffled by the loader"),
        pytest.param(History(), id="empty"),
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


def test_batches_of_one_are_put_together() -> None:
    finding = RULE.check(run(SORTED, 1))
    assert finding is not None
    assert "runs of 8 samples hold a single class" in finding.message
