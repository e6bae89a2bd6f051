"""What is searched: ranges, lists, grids, and their text in a study."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lightning_plateau.tuning.space import Dimension, Space
from lightning_plateau.tuning.spaces import READY, find_space, learning_rate


def test_a_list_is_the_values_themselves() -> None:
    assert Dimension.of([1, 2]).distribution == CategoricalDistribution([1, 2])


@pytest.mark.parametrize("given", [[], 3, "relu", None])
def test_what_describes_no_values_is_refused(given) -> None:
    with pytest.raises(ValueError, match="expected a distribution"):
        Dimension.of(given)


@pytest.mark.parametrize("given", [{}, [1], 3])
def test_what_describes_no_space_is_refused(given) -> None:
    with pytest.raises(ValueError, match="expected a space"):
        Space.of(given)


@pytest.mark.parametrize("name", READY)
def test_a_ready_space_survives_the_storage(name) -> None:
    assert Space.from_json(READY[name].to_json()) == READY[name]


def test_a_grid_takes_lists_whole_and_shares_the_rest() -> None:
    space = Space.of({"a": ["x", "y", "z"], "lr": FloatDistribution(1e-4, 1.0, log=True)})
    grid = space.grid(12)
    assert grid["a"] == ["x", "y", "z"]
    assert grid["lr"] == pytest.approx([10**-3.5, 10**-2.5, 10**-1.5, 10**-0.5])


def test_a_grid_has_two_points_of_a_range_at_least() -> None:
    space = Space.of({"a": [1, 2, 3, 4], "n": IntDistribution(1, 9, step=2)})
    assert space.grid(3)["n"] == [3, 7]


def test_a_setting_is_replaced_and_keeps_how_far_it_may_be_widened() -> None:
    narrow = learning_rate.having("learning_rate", FloatDistribution(0.1, 0.2, log=True))
    assert narrow.dimensions["learning_rate"].widest == (1e-8, 100.0)
    assert list((narrow | Space.of({"width": [1]})).dimensions) == ["learning_rate", "width"]
    assert list((narrow | Space.of({"width": [1]})).only(["width"]).dimensions) == ["width"]


def test_an_unknown_space_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="learning_rate, optimizer, regularization, standard"):
        find_space("everything")
