from __future__ import annotations

from collections.abc import Sequence

import pytest
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import VALIDATION_LOSS
from lightning_plateau.rules.validation_better_than_training import ValidationBetterThanTraining
from lightning_plateau.testing import history
from tests.rules.taped import Loss, labels, points, taped

RULE = ValidationBetterThanTraining()
PER = 20


def run(
    training: Sequence[float],
    validation: Sequence[float],
    *layers: nn.Module,
    loss: Loss = lambda net, x, y: cross_entropy(net(x), y),
) -> History:
    tapes = taped(loss, nn.Sequential(nn.Linear(4, 3), *layers), points(), labels()).tapes
    losses = [value for value in training for _ in range(PER)]
    # The first validation lies at step 0.
    moved = [validation[0], *validation][: len(training)]
    return history({VALIDATION_LOSS: moved}, loss=losses, every=PER, tapes=tapes)


FALLING = [1.0, 0.8, 0.64, 0.5, 0.4, 0.32, 0.26]


def test_a_remark_where_validation_stays_below() -> None:
    found = RULE.check(run(FALLING, [0.4 * value for value in FALLING]))
    assert found is not None
    assert found.severity is Severity.INFO


@pytest.mark.parametrize(
    "other",
    [
        run(FALLING, FALLING),
        run(FALLING, [0.97 * value for value in FALLING]),
        run(FALLING, [*FALLING[1:], 0.21]),
        run(FALLING, [0.4 * value for value in FALLING], nn.Dropout(0.3)),
        run(
            FALLING,
            [0.4 * value for value in FALLING],
            loss=lambda net, x, y: cross_entropy(net(x), y, label_smoothing=0.1),
        ),
        run(FALLING[:2], [0.1, 0.1]),
        History(),
    ],
    ids=[
        "the same",
        "a little below",
        "ahead by an epoch, as in every training that falls",
        "dropout",
        "label smoothing",
        "too few",
        "empty",
    ],
)
def test_silent(other: History) -> None:
    assert RULE.check(other) is None
