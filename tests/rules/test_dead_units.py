from __future__ import annotations

from dataclasses import replace

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import ACTIVATION_DEAD, GRADIENT_NORMS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.dead_units import DeadUnits
from lightning_plateau.testing import history

RULE = DeadUnits()


def tape(shape: tuple[int, ...] = (64, 32), low: float = -9.0, high: float = -0.1) -> Tape:
    weight = Operand("parameter", name="fc.weight", shape=(32, 4))
    fc = Operation(
        0,
        "linear" if len(shape) == 2 else "conv2d",
        "fc",
        (Operand("batch", 0, "0"), weight),
        shape,
        statistics={"minimum": low, "maximum": high},
    )
    return Tape(0, (fc, Operation(1, "relu", "act", (Operand("operation", 0),), shape)), root=1)


def run(shares: list[float], gradient: float = 0.0, taken: Tape | None = None) -> History:
    signals = {
        ACTIVATION_DEAD: {"act (relu)": shares},
        GRADIENT_NORMS: {"fc.weight": [gradient] * len(shares)},
    }
    return history(signals, tapes=[taken or tape()])


@pytest.mark.parametrize(
    ("sick", "least"),
    [
        (run([1.0, 1.0, 1.0]), 0.95),
        (run([0.2, 0.96, 0.99, 0.99], 0.01), 0.8),
        (run([0.6, 0.7, 0.7], 0.1), 0.6),
        (run([1.0]), 0.95),
        (run([1.0], taken=tape((4, 32, 8, 8))), 0.95),
    ],
)
def test_dead(sick: History, least: float) -> None:
    found = RULE.check(sick)
    assert found is not None
    assert found.confidence >= least
    assert found.where == "act (relu)"


def test_a_small_last_batch_hides_nothing() -> None:
    sick = run([1.0, 1.0])
    small = replace(tape((2, 32)), step=10)
    found = RULE.check(replace(sick, tapes=(*sick.tapes, small)))
    assert found is not None


def test_batches_of_one_sample_tell_it_together() -> None:
    single = tape((1, 32))
    assert RULE.check(run([0.5, 0.8, *[0.97] * 8], taken=single)) is not None
    assert RULE.check(run([0.5, 0.8, *[0.97] * 4], taken=single)) is None
    assert RULE.check(run([0.5, 0.6, *[0.7] * 30], taken=single)) is None


@pytest.mark.parametrize(
    "other",
    [
        run([0.0, 0.1, 0.2], 0.5),
        run([1.0, 0.1, 0.1], 0.5),
        run([0.9, 0.9], taken=tape((2, 32))),
        run([1.0, 1.0], taken=tape(low=-1e-7, high=1e-7)),
        run([float("nan")] * 3),
        history({ACTIVATION_DEAD: {"act (relu)": [1.0]}}),
        History(),
    ],
    ids=["alive", "revived", "batch of two", "tiny input", "not measured", "no tape", "empty"],
)
def test_silent(other: History) -> None:
    assert RULE.check(other) is None


def test_the_last_rectifier_is_never_certain_for_it_stands_in_the_wrong_place() -> None:
    hidden = run([1.0, 1.0, 1.0])
    sides = Operand("operation", 1, shape=(64, 32)), Operand("batch", 1, "1", (64,))
    loss = Operation(2, "cross_entropy", "", sides)
    last = replace(tape(), operations=(*tape().operations, loss), root=2)
    found, behind = RULE.check(hidden), RULE.check(run([1.0, 1.0, 1.0], taken=last))
    assert found is not None
    assert behind is not None
    assert found.certain
    assert not behind.certain
