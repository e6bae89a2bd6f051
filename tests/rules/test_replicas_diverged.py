from __future__ import annotations

import math

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import REPLICA_DIFFERENCES
from lightning_plateau.rules.replicas_diverged import ReplicasDiverged
from lightning_plateau.testing import history

RULE = ReplicasDiverged()


def compared(*rows: float) -> History:
    return history({REPLICA_DIFFERENCES: {"a": list(rows), "b": [0.0] * len(rows)}})


@pytest.mark.parametrize(("difference", "said"), [(2e-4, "0.0002"), (math.inf, "some ranks only")])
def test_different_replicas(difference: float, said: str) -> None:
    found = RULE.check(compared(0.0, difference))
    assert found is not None
    assert said in found.message
    assert found.where == "a"


@pytest.mark.parametrize(
    "well",
    [compared(0.0), compared(1e-6), compared(math.nan), compared(0.5, 0.0), History()],
    ids=["equal", "rounding", "finite nowhere", "equal again", "empty"],
)
def test_silent(well: History) -> None:
    assert RULE.check(well) is None
