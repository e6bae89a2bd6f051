"""Young runs are looked at often while they are sick, and less often while they are well."""

from __future__ import annotations

import math

import pytest

from lightning_plateau.cadence import Cadence
from lightning_plateau.core.history import History
from lightning_plateau.testing import history

EVERY = 50


def falling(steps: int) -> History:
    return history(loss=[0.995**step for step in range(steps)])


def test_a_young_run_that_is_calm_is_bound_to_a_look_each_time_it_has_grown_by_half() -> None:
    cadence = Cadence(EVERY)
    bound = [drain for drain in range(1, 11) if cadence.bound(EVERY * drain)]
    assert bound == [1, 2, 3, 4, 6, 8]
    assert all(cadence.young(EVERY * drain) for drain in range(1, 11))
    assert not cadence.young(EVERY * 11)


def test_it_is_young_again_after_a_treatment() -> None:
    cadence = Cadence(EVERY)
    assert cadence.young(2_000, since=1_900)
    assert cadence.bound(2_000, since=1_900)
    assert cadence.due(falling(2_000), 1_900)


@pytest.mark.parametrize("drain", range(1, 7))
def test_what_is_spared_is_not_diagnosed_and_all_else_is_while_it_is_young(drain: int) -> None:
    run = falling(EVERY * drain)
    assert Cadence(EVERY).due(run)
    assert not Cadence(EVERY).due(run, spared=True)


def test_a_look_that_a_calm_run_is_bound_to_is_diagnosed() -> None:
    cadence = Cadence(10)
    looks = [10 * drain for drain in range(1, 51) if cadence.bound(10 * drain)]
    assert all(cadence.due(falling(step)) for step in looks)


def test_a_loss_that_stays_rises_or_leaps_is_not_calm() -> None:
    cadence = Cadence(EVERY)
    assert cadence.calm(falling(200))
    assert not cadence.calm(history(loss=[1.0] * 200))
    assert not cadence.calm(history(loss=[1.005**step for step in range(200)]))
    assert not cadence.calm(History())
    for last in (math.nan, math.inf, 50.0):
        losses = [0.995**step for step in range(200)]
        assert not cadence.calm(history(loss=[*losses[:-1], last]))


def test_a_loss_that_fell_and_came_to_rest_is_not_calm() -> None:
    losses = [0.9**step for step in range(50)] + [0.005] * 150
    assert not Cadence(EVERY).calm(history(loss=losses))


def test_calm_is_judged_since_the_last_treatment() -> None:
    losses = [0.99**step for step in range(200)] + [0.1] * 100
    assert not Cadence(EVERY).calm(history(loss=losses), since=200)


@pytest.mark.parametrize("last", [math.nan, math.inf, 1e3])
def test_what_is_alarming_is_diagnosed_at_once(last: float) -> None:
    losses = [0.999**step for step in range(950)]
    assert not Cadence(EVERY).due(history(loss=losses), spared=True)
    assert Cadence(EVERY).due(history(loss=[*losses[:-1], last]), spared=True)
