"""How often each class occurs."""

from __future__ import annotations

import math

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.labels import labels
from lightning_plateau.core.signal import LABEL_COUNTS
from lightning_plateau.testing import history

NAN = math.nan


def test_classes_and_batches_without_samples_are_left_out() -> None:
    found = labels(history({LABEL_COUNTS: {"0": [4, 0, 2], "1": [0, NAN, 2], "7": [0, 0, 0]}}))
    assert found is not None
    assert found.names == ("0", "1")
    assert found.steps.tolist() == [0, 2]
    assert found.sizes.tolist() == [4.0, 4.0]
    assert found.ratio == 3.0


@pytest.mark.parametrize(
    ("counts", "entropy", "evenness"),
    [([50, 50], math.log(2), 1.0), ([1] * 8, math.log(8), 1.0), ([9, 1], 0.325, 0.384)],
)
def test_entropy_and_evenness(counts: list[float], entropy: float, evenness: float) -> None:
    columns = {str(label): [count] for label, count in enumerate(counts)}
    found = labels(history({LABEL_COUNTS: columns}))
    assert found is not None
    assert found.entropy == pytest.approx(entropy, abs=1e-3)
    assert found.evenness == pytest.approx(evenness, abs=1e-3)


def test_the_error_of_the_entropy_falls_with_the_samples() -> None:
    few, many = (labels(history({LABEL_COUNTS: {"0": [9 * n], "1": [n]}})) for n in (1, 100))
    assert few is not None
    assert many is not None
    assert few.entropy_error == pytest.approx(10 * many.entropy_error)


def test_nothing_counted() -> None:
    assert labels(History()) is None
    assert labels(history({LABEL_COUNTS: {"0": [NAN, 0.0]}})) is None
