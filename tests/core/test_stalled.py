from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.stalled import stalled_short
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.testing import history

TIME = np.arange(400) / 400
NOISE = np.random.default_rng(0).normal(0.0, 0.05, 400)


def run(losses: np.ndarray, *, finished: bool = False) -> History:
    """Cross-entropy of ten classes: guessing gives ln 10."""
    weight, x = Operand("parameter", name="w"), Operand("batch", 0, "0")
    layer = Operation(0, "linear", operands=(x, weight), shape=(8, 10))
    logits, y = Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,))
    loss = Operation(1, "cross_entropy", operands=(logits, y))
    return history(loss=losses, tapes=[Tape(0, (layer, loss), root=1)], finished=finished)


@pytest.mark.parametrize("finished", [False, True])
def test_at_rest_with_much_left(finished: bool) -> None:
    assert stalled_short(run(0.9 + 1.4 * np.exp(-20 * TIME) + NOISE, finished=finished))


@pytest.mark.parametrize("finished", [False, True])
def test_at_rest_with_little_left(finished: bool) -> None:
    assert not stalled_short(run(0.2 + 2.1 * np.exp(-20 * TIME) + NOISE, finished=finished))


def test_falling_with_much_left_until_the_run_is_over() -> None:
    slow = 2.3 - 0.9 * TIME + NOISE
    assert not stalled_short(run(slow))
    assert stalled_short(run(slow, finished=True))
    assert not stalled_short(run(2.3 * np.exp(-3 * TIME), finished=True))


def test_unknown_without_the_loss_of_guessing_or_after_a_few_steps() -> None:
    assert not stalled_short(history(loss=np.full(400, 0.9)))
    assert not stalled_short(run(np.full(50, 0.9)))
