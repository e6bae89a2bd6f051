from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import LABEL_COUNTS, VALIDATION_LOSS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.labels_uninformative import LabelsUninformative
from lightning_plateau.testing import history

RULE = LabelsUninformative()
MEMORIZED = (2.45, 2.3, 2.2, 2.0, 1.8, 1.5)
"""Training loss at the end of each epoch; guessing among ten classes gives 2.303."""


def run(
    training: Sequence[float] = MEMORIZED,
    validation: Sequence[float] = (2.32, 2.33, 2.4, 2.45, 2.5, 2.6),
    per_epoch: int | None = 50,
) -> History:
    fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 10))
    sides = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,)))
    tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
    noise = np.random.default_rng(0).normal(0, 0.02, 50 * len(training))
    return history(
        {VALIDATION_LOSS: list(validation)},
        loss=np.repeat(training, 50) + noise,
        every=50,
        tapes=[tape],
        profile=Profile(batches_per_epoch=per_epoch),
    )


def test_memorized_labels() -> None:
    found = RULE.check(run())
    assert found is not None
    assert found.certainty == "likely"
    assert "none of 6 validations was better than guessing (the best has 2.32" in found.message


@pytest.mark.parametrize(
    "other",
    [
        run(validation=[2.0, 1.8, 1.7, 1.9, 2.4, 2.6]),
        run(training=[1.9, 1.4, 1.2, 1.0, 0.8, 0.7]),
        run(training=[2.4, 2.35, 2.3, 2.3, 2.3, 2.3]),
        run(training=MEMORIZED[:3], validation=[2.32, 2.33, 2.4]),
        run(per_epoch=None),
        run(per_epoch=200),
        History(),
    ],
    ids=[
        "generalizes, then overfits",
        "learned in the first epoch: validation differs",
        "nothing learned at all",
        "too early to tell",
        "a stream has no epochs",
        "nothing was seen twice",
        "empty",
    ],
)
def test_silent(other: History) -> None:
    assert RULE.check(other) is None


@pytest.mark.parametrize(
    ("counts", "per_epoch", "found"),
    [
        ({"0": [32.0] * 12}, 50, True),
        ({"0": [31.0] * 12, "3": [1.0] * 12}, 50, False),
        ({"0": [32.0] * 3}, 50, False),
        ({"0": [32.0] * 12}, 200, False),
    ],
    ids=["one", "two", "a few batches", "the first epoch"],
)
def test_the_same_label_for_all(
    counts: dict[str, list[float]], per_epoch: int, *, found: bool
) -> None:
    learned = run(training=(0.5, 0.1, 0.05, 0.02, 0.01, 0.005), per_epoch=per_epoch)
    counted = history({LABEL_COUNTS: counts}, every=25).series
    told = RULE.check(replace(learned, series={**learned.series, **counted}))
    assert (told is not None) is found
    assert told is None or "each of 384 labels" in told.message


def test_validation_far_above_guessing_is_no_want_of_knowledge() -> None:
    assert RULE.check(run(validation=(240.0, 260.0, 300.0, 310.0, 320.0, 330.0))) is None


def test_validation_that_still_gets_better_is_waited_for() -> None:
    late = (9.0, 6.0, 4.0, 3.2, 2.6, 2.4)
    assert RULE.check(run(validation=late)) is None
    assert RULE.check(run(validation=(*late, 2.5, 2.7, 2.8), training=(*MEMORIZED, 1.4, 1.3, 1.2)))


@pytest.mark.parametrize(("share", "found"), [(0.9, True), (0.5, False)])
def test_classes_of_unequal_frequency_are_guessed_by_it(share: float, found: bool) -> None:
    shares = np.array([share, *[(1 - share) / 9] * 9])
    level = 0.52  # below ln 10 all the while, and about what frequencies of 9 in 10 give
    memorized = run(
        training=[level * one for one in (1.08, 1.04, 1.0, 0.9, 0.7, 0.5)],
        validation=[level * one for one in (1.05, 1.06, 1.1, 1.2, 1.3, 1.4)],
    )
    counts = {str(label): [1000.0 * one] * 300 for label, one in enumerate(shares)}
    seen = history({LABEL_COUNTS: counts}).series
    told = RULE.check(replace(memorized, series={**memorized.series, **seen}))
    assert (told is not None) is found
