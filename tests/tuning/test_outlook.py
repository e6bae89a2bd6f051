"""What is to be expected of a trial, by its score, by guessing and by the trials before it."""

from __future__ import annotations

import math

import pytest

from lightning_plateau.tuning.outlook import Standing, hopeless

GUESS = 2.303


def code(losses: list[float], share: float, best: float | None = 0.5, guess=GUESS) -> str:
    found = hopeless(Standing(losses, share, 100, guess, best))
    return "" if found is None else found.code


@pytest.mark.parametrize(
    ("losses", "share", "expected"),
    [
        ([2.31, math.nan], 0.01, "LP201"),
        ([math.inf], 0.01, "LP201"),
        ([2.31, 2.3], 0.05, ""),  # too early to say
        ([2.31, 2.3], 0.13, "LP807"),
        ([30.0, 29.0], 0.13, "LP808"),
        ([2.31, 2.1], 0.13, ""),  # it learns
        ([2.31, 2.1], 0.26, "LP405"),  # but others have come ten times as far
        ([2.31, 1.7], 0.26, ""),
    ],
)
def test_where_others_have_learned(losses, share, expected) -> None:
    assert code(losses, share) == expected


def test_alone_a_trial_is_given_twice_the_time() -> None:
    assert code([2.31, 2.3], 0.2, best=None) == ""
    assert code([2.31, 2.3], 0.26, best=None) == "LP807"
    assert code([2.31, 2.1], 0.9, best=None) == ""


def test_others_that_learned_nothing_prove_nothing() -> None:
    assert code([2.31, 2.3], 0.2, best=2.29) == ""


def test_what_comes_down_from_far_above_is_on_its_way() -> None:
    assert code([100.0, 80.0, 60.0, 30.0], 0.5) == ""
    assert code([4.0, 3.5, 3.0, 2.5], 0.2) == ""  # below guessing when it is twice as old
    assert code([4.0, 3.5, 3.0, 2.6], 0.5) == "LP808"


def test_one_bad_validation_is_noise() -> None:
    assert code([2.0, 0.6, 0.7, 0.6, 2.6], 0.95) == ""


def test_without_a_loss_of_guessing_only_what_is_not_finite_ends() -> None:
    assert code([9.0, 9.0], 0.9, guess=None) == ""
    assert code([9.0, math.nan], 0.9, guess=None) == "LP201"
