from __future__ import annotations

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.learning_rates import share_of_peak, spent_at
from lightning_plateau.core.signal import LEARNING_RATES
from lightning_plateau.testing import history

NAN = float("nan")


def rates(*values: float) -> History:
    return history({LEARNING_RATES: {"0": list(values)}})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 0.1, 0.01, 0.001), 2),
        ((1.0, 0.0), 1),
        ((1.0, 0.001, 1.0, 0.001), 3),
        ((0.001, 1.0), None),
        ((1.0, 0.5), None),
        ((0.0, 0.0), None),
        ((NAN, NAN), None),
        ((), None),
    ],
)
def test_spent_since_it_last_was_above(values: tuple[float, ...], expected: int | None) -> None:
    assert spent_at(rates(*values), 0.01) == expected


def test_the_largest_group_counts() -> None:
    two = history({LEARNING_RATES: {"0": [1.0, 0.001], "1": [1.0, 0.5]}})
    assert spent_at(two, 0.01) is None
    assert share_of_peak(two) == 0.5
