from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import LABEL_COUNTS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.class_imbalance import ClassImbalance
from lightning_plateau.rules.flat_loss import FlatLoss
from lightning_plateau.testing import history

RULE = ClassImbalance()
BATCH = 64


def tape(classes: int, loss: str = "cross_entropy", *more: Operand) -> Tape:
    x, weight = Operand("batch", 0, "0", (BATCH, 4)), Operand("parameter", name="fc.weight")
    fc = Operation(0, "linear", "fc", (x, weight), (BATCH, classes))
    scores = Operand("operation", 0, shape=(BATCH, classes))
    target = Operand("batch", 1, "1", (BATCH,), "int64", {"mean": 0.05, "std": 0.2})
    return Tape(0, (fc, Operation(1, loss, "", (scores, target, *more))), root=1)


def run(shares: Sequence[float], losses: float, steps: int = 300, taped: Tape | None = None):
    """Return a history with labels of given shares whose loss is ``losses`` times the entropy."""
    drawn = np.random.default_rng(0).multinomial(BATCH, shares, size=steps)
    counts = {str(label): drawn[:, label].astype(float) for label in range(len(shares))}
    seen = drawn.sum(axis=0) / drawn.sum()
    entropy = float(-(seen * np.log(seen)).sum())
    noise = np.random.default_rng(1).normal(0, 0.2 * entropy, steps)
    loss = np.concatenate([[np.log(len(shares))], losses * entropy + noise[1:]])
    return history({LABEL_COUNTS: counts}, loss=loss, tapes=[taped or tape(len(shares))])


RARE = (0.95, 0.05)
LONG_TAIL = (0.91, *[0.01] * 9)
TEXT = (0.4, 0.35, 0.15, *[0.02] * 4, *[0.004] * 5)
WEIGHTS = Operand("buffer", name="weight", shape=(2,))


@pytest.mark.parametrize("shares", [RARE, LONG_TAIL, (0.3, 0.69, 0.01)])
def test_found(shares: Sequence[float]) -> None:
    finding = RULE.check(run(shares, 1.0))
    assert finding is not None
    assert not finding.certain


@pytest.mark.parametrize(("shares", "certainty"), [(LONG_TAIL, "likely"), (TEXT, "possible")])
def test_no_more_than_possible_where_no_class_has_half(shares: Sequence[float], certainty: str):
    finding = RULE.check(run(shares, 1.0, steps=1200))
    assert finding is not None
    assert finding.certainty == certainty


def test_the_loss_is_called_flat_too() -> None:
    finding = FlatLoss().check(run(RARE, 1.0))
    assert finding is not None
    assert "frequent" in finding.message


@pytest.mark.parametrize(
    "healthy",
    [
        pytest.param(run(RARE, 0.5), id="copes"),
        pytest.param(run(RARE, 0.85), id="copes somewhat"),
        pytest.param(run((0.5, 0.5), 1.0), id="balanced"),
        pytest.param(run((0.7, 0.3), 1.0), id="mildly uneven"),
        pytest.param(run([0.1] * 10, 1.0), id="ten classes alike"),
        pytest.param(run(RARE, 3.0), id="loss far above"),
        pytest.param(run(RARE, 1.0, steps=20), id="too early"),
        pytest.param(run(RARE, 1.0, taped=tape(2, "cross_entropy", WEIGHTS)), id="weighted loss"),
        pytest.param(history(loss=[0.2] * 300, tapes=[tape(2)]), id="nothing counted"),
        pytest.param(History(), id="empty"),
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


@pytest.mark.parametrize("share", [0.5, 0.85])
def test_uneven_classes_that_are_learned_are_not_called_flat(share: float) -> None:
    assert FlatLoss().check(run(RARE, share)) is None
