from __future__ import annotations

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import BUFFER_NORMS
from lightning_plateau.rules.batch_norm_non_finite import BatchNormNonFinite
from lightning_plateau.testing import history

RULE = BatchNormNonFinite()
NAN, INF = float("nan"), float("inf")


def run(**columns: list[float]) -> History:
    named = {name.replace("__", "."): values for name, values in columns.items()}
    return history({BUFFER_NORMS: named}, every=50)


@pytest.mark.parametrize(
    ("sick", "since", "confidence"),
    [
        (run(bn__running_mean=[0.1, NAN, NAN], bn__running_var=[1, NAN, NAN]), 50, 1.0),
        (run(bn__running_var=[1, 2, INF]), 100, 1.0),
        (run(bn__running_mean=[NAN, NAN], other__running_mean=[1, 1]), 0, 1.0),
        (run(bn__running_mean=[NAN]), 0, 0.9),
        (run(bn__running_mean=[NAN, 1.0, NAN]), 100, 1.0),
        (run(running_mean=[1.0, NAN]), 50, 1.0),
    ],
)
def test_found(sick: History, since: int, confidence: float) -> None:
    found = RULE.check(sick)
    assert found is not None
    assert (found.step, found.confidence) == (since, confidence)


@pytest.mark.parametrize(
    "healthy",
    [
        run(bn__running_mean=[0.1, 0.2], bn__running_var=[1, 1]),
        run(bn__running_mean=[NAN, 0.2]),
        run(mask=[INF, INF], bn__running_mean=[0.0, 0.0]),
        History(),
    ],
    ids=["finite", "restored", "a mask of infinities", "empty"],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None
