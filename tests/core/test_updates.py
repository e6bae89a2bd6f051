from __future__ import annotations

import math

import pytest

from lightning_plateau.core.signal import GRADIENT_NORMS, PARAMETER_NORMS, UPDATE_RATIOS
from lightning_plateau.core.updates import weight_updates
from lightning_plateau.testing import history

LARGEST = 1.7e308


@pytest.mark.filterwarnings("error")
def test_numbers_at_the_end_of_the_range_make_no_warning():
    ones = {"a": [1.0] * 3, "b": [1.0] * 3}
    gradients = {"a": [LARGEST, 1.0, 1.0], "b": [LARGEST, 1.0, 1.0]}
    far = weight_updates(history({UPDATE_RATIOS: {"a": [LARGEST] * 3}}))
    steep = weight_updates(
        history({UPDATE_RATIOS: ones, PARAMETER_NORMS: ones, GRADIENT_NORMS: gradients})
    )
    assert math.isfinite(far.typical)
    assert math.isfinite(steep.gradient)
