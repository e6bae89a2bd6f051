from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import UPDATE_RATIOS, VALIDATION_LOSS, Signal
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.underfitting import Underfitting
from lightning_plateau.testing import history

RULE = Underfitting()


def tape(classes: int = 10) -> Tape:
    fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, classes))
    sides = (Operand("operation", 0, shape=(8, classes)), Operand("batch", 1, "1", (8,)))
    return Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)


def run(training: float, validation: float, ratio: float = 1e-3) -> History:
    signals: dict[Signal, Any] = {
        UPDATE_RATIOS: {"fc.weight": [ratio] * 6},
        VALIDATION_LOSS: [validation] * 6,
    }
    losses = training + np.random.default_rng(0).normal(0, 0.01, 300)
    return history(signals, loss=losses, every=50, tapes=[tape()])


@pytest.mark.parametrize(("training", "validation"), [(2.3, 2.31), (1.8, 1.75), (1.5, 1.55)])
def test_possible(training: float, validation: float) -> None:
    found = RULE.check(run(training, validation))
    assert found is not None
    assert found.certainty == "possible"


@pytest.mark.parametrize(
    "other",
    [run(0.1, 0.11), run(1.5, 2.5), run(2.3, 2.3, 1e-8), run(2.3, 2.3, 0.5), History()],
    ids=["fits", "a gap", "too short updates", "too long updates", "empty"],
)
def test_silent(other: History) -> None:
    assert RULE.check(other) is None
