"""How much to shorten steps, told from the first update."""

from __future__ import annotations

import math

import pytest

from lightning_plateau.core.profile import GroupFact, OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.signal import LEARNING_RATES, UPDATE_RATIOS
from lightning_plateau.core.step_length import lengthening, shortening
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


def of(kind: str, **settings: float) -> Profile:
    return Profile(optimizers=(OptimizerFact(kind, (GroupFact(("fc.weight",), settings),)),))


@pytest.mark.parametrize(
    ("profile", "factor"),
    [
        (of("SGD", momentum=0.9), 0.01),
        (of("SGD", momentum=0.999), 0.001),
        (of("SGD", momentum=0), 0.1),
        (of("RMSprop", alpha=0.99, momentum=0), 0.5),
        (of("Adam"), 0.1),
    ],
)
def test_what_the_first_update_of_an_optimizer_leads_to(profile: Profile, factor: float) -> None:
    moved = {UPDATE_RATIOS: {"fc.weight": [0.1]}}
    assert shortening(history(moved, profile=profile)) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("rates", "factor"), [([1.0, 0.5], 0.2), ([1.0, 0.1], 0.25), ([0.1, 1.0], 0.01), ([0.0], 0.1)]
)
def test_a_rate_that_was_changed_since_is_allowed_for(rates: list[float], factor: float) -> None:
    moved = {UPDATE_RATIOS: {"fc.weight": [0.1]}, LEARNING_RATES: {"0": rates}}
    assert shortening(history(moved)) == pytest.approx(factor)


def test_steps_are_lengthened_from_what_they_are_now() -> None:
    moved = {UPDATE_RATIOS: {"fc.weight": [1e-6] * 10 + [1e-3] * 4}}
    assert lengthening(history(moved)) == 5.0
    assert lengthening(history({UPDATE_RATIOS: {"fc.weight": [0.1] * 4}})) == 3.0
    assert lengthening(history()) is None
