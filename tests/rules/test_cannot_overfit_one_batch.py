"""LP803: the fault, its healthy twin and the edges."""

from __future__ import annotations

import math

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import EXPERIMENT_OVERFIT
from lightning_plateau.diagnosis import diagnose
from lightning_plateau.rules.cannot_overfit_one_batch import CannotOverfitOneBatch
from lightning_plateau.testing import history

RULE = CannotOverfitOneBatch()


def tried(before: float, own: float, adam: float, loss: float = 2.3) -> History:
    row = {"before": [before], "own": [own], "adam": [adam]}
    return history({EXPERIMENT_OVERFIT: row}, loss=[loss] * 200)


@pytest.mark.parametrize(
    ("own", "adam", "found"),
    [
        (2.3, 2.29, True),
        (2.3, 2.1, True),
        (2.3, 1.9, False),  # Adam can
        (0.4, math.nan, False),  # its own optimizer can
        (math.nan, 2.29, True),
        (math.nan, math.nan, False),  # a loss that is not finite is another fault
    ],
)
def test_a_batch_that_cannot_be_learned(own: float, adam: float, found: bool) -> None:
    assert (RULE.check(tried(2.31, own, adam)) is not None) is found


def test_it_comes_before_the_flat_loss_and_only_while_there_is_one() -> None:
    codes = [finding.code for finding in diagnose(tried(2.31, 2.3, 2.29))]
    assert codes == ["LP803", "LP401"]
    falling = history(
        {EXPERIMENT_OVERFIT: {"before": [2.31], "own": [2.3], "adam": [2.3]}},
        loss=[2.3 * 0.98**step for step in range(200)],
    )
    assert diagnose(falling) == ()


def test_nothing_is_said_where_it_was_not_tried() -> None:
    assert RULE.check(history(loss=[2.3] * 200)) is None
