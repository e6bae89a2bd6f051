"""A best trial on the edge of its range widens the range."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from lightning_plateau.tuning.space import Dimension, Space
from lightning_plateau.tuning.spaces import learning_rate, regularization
from lightning_plateau.tuning.widening import widened


@pytest.mark.parametrize(
    ("best", "low", "high"),
    [(2e-5, 1e-6, 1.0), (1e-2, 1e-5, 1.0), (0.7, 1e-5, 10.0)],
)
def test_by_a_decade_where_the_scale_is_logarithmic(best, low, high) -> None:
    space, said = widened(learning_rate, {"learning_rate": best})
    found = space.dimensions["learning_rate"].distribution
    assert (found.low, found.high) == pytest.approx((low, high))
    assert bool(said) == ((low, high) != (1e-5, 1.0))


def test_no_further_than_makes_sense() -> None:
    space = regularization.only(["dropout"])
    for _ in range(5):
        top = space.dimensions["dropout"].distribution.high
        space, _ = widened(space, {"dropout": top})
    assert space.dimensions["dropout"].distribution.high == 0.9
    assert widened(space, {"dropout": 0.0})[1] == ()


def test_what_the_user_gave_is_kept() -> None:
    space = Space.of({"width": IntDistribution(8, 64), "lr": FloatDistribution(0.0, 1.0)})
    assert widened(space, {"width": 64, "lr": 1.0}) == (space, ())


def test_whole_numbers_stay_whole() -> None:
    space = Space.of({"depth": Dimension(IntDistribution(2, 8), widest=(1, 20))})
    wider, _ = widened(space, {"depth": 8})
    assert wider.dimensions["depth"].distribution == IntDistribution(2, 11)
