from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.signal import (
    BATCH_SIZE,
    EXPERIMENT_OVERFIT,
    UPDATE_RATIOS,
    VALIDATION_LOSS,
    Signal,
)
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.cannot_overfit_one_batch import CannotOverfitOneBatch
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


@pytest.mark.parametrize(("width", "found"), [(1, True), (100, False)])
def test_a_model_of_fewer_parameters_than_samples_need_not_learn_a_batch(
    width: int, found: bool
) -> None:
    signals: dict[Signal, Any] = {
        UPDATE_RATIOS: {"fc.weight": [1e-3] * 6},
        VALIDATION_LOSS: [2.3] * 6,
        BATCH_SIZE: [16.0] * 6,
        EXPERIMENT_OVERFIT: {"before": [2.3], "own": [2.3], "adam": [2.28]},
    }
    profile = Profile(parameters=(ParameterFact("fc.weight", "fc", (width, 2)),))
    losses = 2.3 + np.random.default_rng(0).normal(0, 0.01, 300)
    tried = history(signals, loss=losses, every=50, tapes=[tape()], profile=profile)
    assert (RULE.check(tried) is not None) is found
    assert (CannotOverfitOneBatch().check(tried) is None) is found
