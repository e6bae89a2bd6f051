from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.report.scale import Scale, scale_of


@pytest.mark.parametrize(
    "values",
    [
        [],
        [np.nan],
        [np.inf, 1.0],
        [0.0],
        [3.0, 3.0],
        [-5.0, 5.0],
        [1e-300, 1e300],
        [1e-310],
        [-1e150],
    ],
)
def test_whatever_the_values_heights_lie_within_the_plot_and_ticks_too(values):
    given = np.array(values, dtype=float)
    scale = scale_of(given)
    heights = scale.heights(given[np.isfinite(given)])
    assert ((heights >= 0) & (heights <= 1)).all()
    assert all(0 <= tick.height <= 1 for tick in scale.ticks)
    assert len(scale.ticks) <= 8


def test_values_within_a_decade_are_drawn_on_a_linear_scale():
    assert not scale_of(np.array([2.3, 2.5])).log
    assert scale_of(np.array([2.3, 0.01])).log


def test_one_explosion_does_not_press_the_rest_into_the_edge():
    values = np.append(np.linspace(3, 0.5, 200), 1e20)
    scale = scale_of(values)
    assert scale.heights(np.array([3.0]))[0] - scale.heights(np.array([0.5]))[0] > 0.15


def test_ticks_are_round_numbers():
    assert [tick.text for tick in Scale(0.0, 1.0).ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [tick.text for tick in Scale(1.5, 7.0, log=True).ticks] == ["2", "5"]
