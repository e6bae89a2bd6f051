from __future__ import annotations

import warnings

import numpy as np
import pytest

from lightning_plateau.core.history import Series
from lightning_plateau.core.signal import LOSS
from lightning_plateau.report.curves import curve


def series(values):
    values = np.asarray(values, dtype=np.float64)
    return Series(LOSS, np.arange(len(values)), values)


def test_a_short_series_is_drawn_as_it_is():
    drawn = curve(series([3.0, np.inf, 1.0]))
    np.testing.assert_array_equal(drawn.highest, [3.0, np.nan, 1.0])
    np.testing.assert_array_equal(drawn.lowest, drawn.highest)
    assert drawn.smooth is None


@pytest.mark.parametrize("rows", [0, 1, 59, 60, 2000, 2001, 50_000])
def test_no_series_is_too_long_or_too_short(rows):
    drawn = curve(series(np.arange(float(rows))))
    assert len(drawn.steps) == len(drawn.lowest) == len(drawn.highest) <= 2000


def test_a_peak_of_one_step_survives_and_does_not_move_the_median():
    values = np.ones(100_000)
    values[54_321] = 1e6
    drawn = curve(series(values))
    assert drawn.highest.max() == 1e6
    assert drawn.smooth.max() == 1.0


def test_a_series_without_a_finite_value_draws_nothing_and_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = curve(series([np.nan] * 5000))
    assert not np.isfinite(drawn.smooth).any()
