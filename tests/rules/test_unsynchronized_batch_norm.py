from __future__ import annotations

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ModuleFact, Profile
from lightning_plateau.core.signal import BATCH_SIZE
from lightning_plateau.core.tape import Tape
from lightning_plateau.rules.unsynchronized_batch_norm import UnsynchronizedBatchNorm
from lightning_plateau.testing import history
from tests.rules.normalized import tape

RULE = UnsynchronizedBatchNorm()


def run(
    samples: float, devices: int, kind: str = "BatchNorm1d", taken: Tape | None = None
) -> History:
    facts = Profile(modules=(ModuleFact("bn", kind),), world_size=devices)
    return history({BATCH_SIZE: [samples] * 3}, profile=facts, tapes=[taken or tape()])


@pytest.mark.parametrize(("samples", "confidence"), [(4.0, 0.65), (12.0, 0.5)])
def test_small_batches_on_several_devices(samples: float, confidence: float) -> None:
    found = RULE.check(run(samples, 8))
    assert found is not None
    assert found.confidence == confidence
    assert "LP601" in found.explains


@pytest.mark.parametrize(
    "well",
    [
        run(4.0, 1),
        run(32.0, 8),
        run(2.0, 2),
        run(4.0, 8, "SyncBatchNorm"),
        run(4.0, 8, taken=tape(training=False)),
        run(float("nan"), 8),
        History(),
    ],
    ids=["one device", "large", "small in all", "synchronized", "frozen", "unknown", "empty"],
)
def test_silent(well: History) -> None:
    assert RULE.check(well) is None
