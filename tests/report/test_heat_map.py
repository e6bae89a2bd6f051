from __future__ import annotations

import numpy as np

from lightning_plateau.core.signal import (
    ACTIVATION_DEAD,
    GRADIENT_NORMS,
    NORMALIZATION_BATCH_VARIANCE,
    NORMALIZATION_RUNNING_VARIANCE,
)
from lightning_plateau.report.heat_map import MOST_LAYERS, heat_maps
from lightning_plateau.testing import history

SOUND = np.full(200, 0.1)


def test_layers_whose_gradients_vanish_are_pale_and_zero_and_infinity_have_colours_of_their_own():
    broken = np.where(np.arange(200) < 100, 0.1, np.inf)
    made = history({GRADIENT_NORMS: {"a": SOUND * 1e-6, "b": SOUND, "c": SOUND * 0, "d": broken}})
    (found,) = heat_maps(made)
    assert found.layers == ("a", "b", "c", "d")
    assert found.values == (
        ("1e-07", "1e-07", "1e-07"),
        ("0.1", "0.1", "0.1"),
        ("0", "0", "0"),
        ("0.1", "infinity", "infinity"),
    )
    assert "M0.00 0H1000.00" in found.paths["0"]
    assert "M0.00 1H1000.00" in found.paths["8"]
    assert "M0.00 2H1000.00" in found.paths["zero"]
    assert "3H1000.00" in found.paths["broken"]


def test_what_was_not_recorded_is_left_blank():
    seen = np.where(np.arange(200) < 100, np.nan, 0.1)
    (found,) = heat_maps(history({GRADIENT_NORMS: {"a": seen}}))
    assert found.values[0] == ("NaN", "0.1", "0.1")
    assert not [path for path in found.paths.values() if path.startswith("M0.00")]


def test_of_many_layers_some_are_shown_evenly():
    (found,) = heat_maps(history({GRADIENT_NORMS: {f"l{i}": SOUND for i in range(300)}}))
    assert len(found.layers) == MOST_LAYERS
    assert (found.layers[0], found.layers[-1]) == ("l0", "l299")
    assert found.omitted == 300 - MOST_LAYERS


def test_a_run_without_dead_units_has_no_map_of_them():
    assert heat_maps(history({ACTIVATION_DEAD: {"relu": [0.0, 0.0]}}, every=50)) == ()
    (found,) = heat_maps(history({ACTIVATION_DEAD: {"relu": [0.0, 0.9]}}, every=50))
    assert found.key == "dead"
    assert found.edges.tolist() == [0.0, 50 / 51, 1.0]


def test_statistics_that_agree_are_neutral_and_that_drift_are_not():
    made = history(
        {
            NORMALIZATION_BATCH_VARIANCE: {"bn": [1.0, 10.0]},
            NORMALIZATION_RUNNING_VARIANCE: {"bn": [1.0, 1.0]},
        },
        every=50,
    )
    (found,) = heat_maps(made)
    assert set(found.paths) == {"4", "8"}
