from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.signal import (
    ACTIVATION_DEAD,
    DATA_MEAN,
    DATA_NON_FINITE,
    DATA_STD,
    GRADIENT_NORM,
    GRADIENT_NORMS,
    LEARNING_RATES,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)
from lightning_plateau.core.spoilt import spoilt
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.diagnosis import diagnose
from lightning_plateau.rules.learning_rate_too_high import LearningRateTooHigh
from lightning_plateau.testing import history

RULE = LearningRateTooHigh()
FACTS = (
    ParameterFact("a.weight", "a", (8, 4)),
    ParameterFact("a.bias", "a", (8,)),
    ParameterFact("b.weight", "b", (3, 8)),
)
ENTRY = Tape(
    0,
    (
        Operation(
            0,
            "linear",
            "a",
            (
                Operand("batch", 0, "0", (16, 4)),
                Operand("parameter", name="a.weight", shape=(8, 4)),
            ),
        ),
    ),
)


def run(
    ratios: list[float],
    norms: list[float] | None = None,
    *,
    gradient: float = 0.5,
    disparity: float = 1.0,
    kind: str = "SGD",
    raw: bool = False,
    loss: Any = (2.3, 2.5, 2.4) * 10,
) -> History:
    size = norms or [5.0] * len(ratios)
    bias = [100.0] * len(ratios)
    signals: dict[Any, Any] = {
        UPDATE_RATIOS: {"a.weight": ratios, "a.bias": bias, "b.weight": ratios},
        PARAMETER_NORMS: {"a.weight": size, "a.bias": bias, "b.weight": size},
        GRADIENT_NORMS: {"a.weight": [gradient], "b.weight": [gradient * disparity]},
        LEARNING_RATES: {"0": [1.0]},
        DATA_MEAN: {"0": [70.0 if raw else 0.0]},
        DATA_STD: {"0": [220.0 if raw else 1.0]},
    }
    profile = Profile(parameters=FACTS, optimizers=(OptimizerFact(kind),))
    return history(signals, loss=loss, profile=profile, tapes=[ENTRY])


@pytest.mark.parametrize(
    ("history_of_updates", "least"),
    [
        (run([2.0, 1.0, 0.8]), 0.95),
        (run([1.5, 0.3, 0.2], kind="Adam"), 0.95),
        (run([0.3, 0.2, 0.15]), 0.8),
        (run([0.6, 0.01, 0.01]), 0.8),
        (run([0.08, 0.02, 0.001], [5.0, 50.0, 5000.0]), 0.8),
        (run([0.02, 0.02, 0.02], loss=[1.0, 1.6] * 30), 0.7),
        (run([0.2, 0.05, 0.02], loss=[2.3, 900.0, 4e7, float("inf")]), 0.8),
    ],
    ids=[
        "longer than the weights",
        "Adam at one",
        "a tenth for good",
        "long at first",
        "small beside weights that grew",
        "swings",
        "explodes",
    ],
)
def test_found(history_of_updates: History, least: float) -> None:
    found = RULE.check(history_of_updates)
    assert found is not None
    assert found.confidence >= least


@pytest.mark.parametrize(
    "history_of_updates",
    [
        run([1e-3, 1e-3]),
        run([0.05, 0.01, 0.01]),
        run([0.02, 0.02], kind="Adam"),
        run([0.01, 0.01], [5.0, 20.0]),
        run([float("inf"), float("nan"), 1e-3]),
        run([]),
        History(),
    ],
)
def test_silent(history_of_updates: History) -> None:
    assert RULE.check(history_of_updates) is None


@pytest.mark.parametrize(
    "other_cause",
    [
        run([2.0, 1.0], raw=True),
        run([2.0, 1.0], gradient=500.0),
        run([2.0, 1.0], disparity=1e5),
    ],
    ids=["raw input", "huge first gradient", "gradients that differ between layers"],
)
def test_less_sure_where_something_else_makes_updates_long(other_cause: History) -> None:
    found = RULE.check(other_cause)
    assert found is not None
    assert found.confidence < 0.6
    assert "; but " in found.message


def test_steps_of_adam_do_not_grow_with_the_gradient() -> None:
    found = RULE.check(run([2.0, 1.0], gradient=500.0, kind="Adam"))
    assert found is not None
    assert found.confidence >= 0.9


def test_fix_names_a_learning_rate() -> None:
    found = RULE.check(run([2.0, 1.0]))
    assert found is not None
    assert found.fix == "lower the learning rate: lr=0.005 in place of 1"


def test_zero_weights_have_no_relative_update() -> None:
    assert RULE.check(run([np.inf, np.inf])) is None


def _with_dead(history_of_updates: History, *shares: float) -> History:
    dead = history({ACTIVATION_DEAD: {"a (relu)": list(shares)}})
    return replace(history_of_updates, series={**history_of_updates.series, **dead.series})


def test_units_that_died_under_long_updates_are_their_work() -> None:
    moved, sound = run([0.18, 0.03, 0.03]), run([0.03, 0.03, 0.03])
    alive, dead = RULE.check(_with_dead(moved, 0.2, 0.2, 0.3)), _with_dead(moved, 0.2, 0.7, 0.7)
    assert alive is not None
    assert alive.confidence == 0.55
    found = RULE.check(dead)
    assert found is not None
    assert found.confidence == 0.7
    assert RULE.check(_with_dead(sound, 0.2, 0.7, 0.7)) is None
    always = RULE.check(_with_dead(moved, 0.7, 0.7, 0.7))
    assert always is not None
    assert always.confidence == 0.55


def test_a_loss_that_had_come_down_breaks_for_another_reason() -> None:
    nan, falls = float("nan"), [2.0 * 0.9**step for step in range(29)]
    signals = {
        GRADIENT_NORM: [1.0] * 29 + [nan],
        LEARNING_RATES: {"0": [0.1] * 30},
        DATA_NON_FINITE: {"0": [0.0] * 30},
    }
    for losses, possible in ((falls, True), ([2.0] * 29, False)):
        broken = run([0.2] * 30, loss=[*losses, nan])
        seen = history(signals, loss=[*losses, nan]).series
        found = RULE.check(replace(broken, series={**broken.series, **seen}))
        assert found is not None
        assert (found.certainty == "possible") is possible
        assert ("come down" in found.message) is possible


HEAD = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 10))
SIDES = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,)))
CLASSES = Tape(0, (HEAD, Operation(1, "cross_entropy", "", SIDES)), root=1)
RESTS = [2.3, *[1.6, 1.7, 1.5] * 60]


@pytest.mark.parametrize(
    ("ratios", "dead", "loss", "told"),
    [
        ([2.0, 0.5, 0.03], (0.1, 0.9, 0.9), RESTS, True),
        ([0.2, 0.1, 0.03], (0.1, 0.9, 0.9), RESTS, False),
        ([2.0, 0.5, 0.03], (0.1, 0.2, 0.2), RESTS, False),
        ([2.0, 0.5, 0.03], (0.1, 0.9, 0.9), [2.3, *[0.1, 0.12, 0.08] * 60], False),
        ([2.0, 0.5, 0.03], (0.1, 0.9, 0.9), np.linspace(2.3, 0.8, 180), False),
    ],
    ids=["spoilt", "shorter updates", "units live", "little is left", "still falling"],
)
def test_a_spoilt_network_needs_no_other_symptom(
    ratios: list[float], dead: tuple[float, ...], loss: Any, told: bool
) -> None:
    seen = replace(_with_dead(run(ratios, kind="Adam", loss=loss), *dead), tapes=(CLASSES,))
    assert spoilt(seen) is told
    assert bool(diagnose(seen, [RULE])) is told
