"""What the experiments of fitting say."""

from __future__ import annotations

import math

import pytest

from lightning_plateau.core.along_update import along_update
from lightning_plateau.core.fitting import fall, fitting, label_test
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import (
    EXPERIMENT_OVERFIT,
    EXPERIMENT_SHUFFLED_LABELS,
    EXPERIMENT_STEP_SIZE,
)
from lightning_plateau.testing import history

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(2.0, 1.0, 0.5), (-1.0, -2.0, 0.5), (1e308, -1e308, 2.0), (1.0, 4.0, -0.75)],
)
def test_a_fall_is_a_share_of_the_larger(before: float, after: float, expected: float) -> None:
    assert fall(before, after) == pytest.approx(expected)


def test_what_is_unknown_is_not_a_number() -> None:
    assert math.isnan(fall(NAN, 1.0))
    assert math.isnan(fall(0.0, 0.0))
    assert fitting(History()) is None
    assert label_test(History()) is None
    assert along_update(History()) is None


def overfitted(before: float, own: float, adam: float) -> History:
    return history({EXPERIMENT_OVERFIT: {"before": [before], "own": [own], "adam": [adam]}})


def test_the_best_attempt_counts() -> None:
    found = fitting(overfitted(2.0, NAN, 0.5))
    assert found is not None
    assert math.isnan(found.own)
    assert (found.best, found.after) == (0.75, 0.5)
    assert fitting(overfitted(2.0, NAN, NAN)) is None
    assert fitting(overfitted(NAN, 1.0, 1.0)) is None


def labelled(true: float, shuffled: float, unseen_true: float, unseen_shuffled: float) -> History:
    row = {"before": 2.3, "unseen before": 2.3, "true": true, "shuffled": shuffled}
    row |= {"unseen true": unseen_true, "unseen shuffled": unseen_shuffled}
    return history({EXPERIMENT_SHUFFLED_LABELS: {name: [value] for name, value in row.items()}})


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((0.4, 1.3, 0.9, 2.8), True),
        ((1.3, 1.3, 2.6, 2.6), False),
        ((2.29, 2.3, 2.3, 2.3), None),  # nothing was learned
        ((0.3, 1.3, 2.3, 2.6), None),  # faster, but no use for unseen batches
    ],
)
def test_labels_are_informative_or_not(
    losses: tuple[float, float, float, float], expected: bool | None
) -> None:
    found = label_test(labelled(*losses))
    assert found is not None
    assert found.informative is expected


def stepped(*rows: tuple[float, ...]) -> History:
    columns = zip(*rows, strict=True)
    names = ("0", "0.1", "0.3", "1", "3", "10")
    return history(
        {EXPERIMENT_STEP_SIZE: dict(zip(names, map(list, columns), strict=True))}, every=0
    )


@pytest.mark.parametrize(
    ("row", "overshoots", "holds", "short", "long_enough"),
    [
        ((1.0, 0.95, 0.9, 0.8, 0.7, 0.9), False, True, False, False),
        ((1.0, 0.98, 0.99, 1.4, 5.0, 90.0), True, False, False, True),
        ((1.0, 1.5, 4.0, 9.0, INF, NAN), True, False, False, True),
        ((1.0, 0.99995, 0.9999, 0.9995, 0.998, 0.995), False, False, True, False),
        ((1.0, 1.0, 1.0, 1.0, 1.0, 1.0), False, False, False, False),
        ((-1.0, -1.1, -1.2, -1.5, -1.6, -1.4), False, True, False, False),
    ],
)
def test_the_loss_along_an_update(
    row: tuple[float, ...], overshoots: bool, holds: bool, short: bool, long_enough: bool
) -> None:
    found = along_update(stepped(row))
    assert found is not None
    assert (found.overshoots, found.holds) == (overshoots, holds)
    assert (found.short, found.long_enough) == (short, long_enough)


def test_the_median_of_the_batches_counts() -> None:
    good, bad = (1.0, 0.95, 0.9, 0.8, 0.7, 0.9), (1.0, 1.5, 4.0, 9.0, INF, NAN)
    found = along_update(stepped(good, bad, good))
    assert found is not None
    assert found.holds
    assert along_update(stepped((0.0,) * 6)) is None


def test_a_batch_that_one_answer_fits_does_not_show_what_the_inputs_add() -> None:
    few = {"before": [2.3], "own": [1.4], "adam": [1.4], "blind": [1.4]}
    tried = fitting(history({EXPERIMENT_OVERFIT: few}))
    assert tried is not None
    assert tried.learned > 0.3
