"""How much to shorten steps, told from the first update."""

from __future__ import annotations

import math

import pytest

from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.signal import UPDATE_RATIOS
from lightning_plateau.core.step_length import shortening
from lightning_plateau.testing import history


@pytest.mark.parametrize(
    ("ratios", "factor"),
    [
        ([0.1], 0.1),
        ([3.0], 0.003),
        ([1e9], 1e-4),
        ([0.001], 0.5),
        ([math.nan, 0.1, 5.0], 0.1),
        ([math.inf, 0.0, 0.02], 0.5),
        ([math.nan], None),
        ([], None),
    ],
)
def test_the_first_update_that_was_measured_tells(ratios: list[float], factor: float) -> None:
    assert shortening(history({UPDATE_RATIOS: {"fc.weight": ratios}})) == factor


def test_matrices_count_and_vectors_do_not() -> None:
    profile = Profile(
        parameters=(
            ParameterFact("fc.weight", "fc", (3, 2)),
            ParameterFact("norm.weight", "norm", (3,)),
        )
    )
    moved = {UPDATE_RATIOS: {"fc.weight": [0.1], "norm.weight": [1e3]}}
    assert shortening(history(moved, profile=profile)) == 0.1


def test_nothing_recorded() -> None:
    assert shortening(history()) is None
