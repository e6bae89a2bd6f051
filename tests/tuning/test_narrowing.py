"""What was wrong with a run says where to look."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.profile import GroupFact, OptimizerFact, Profile
from lightning_plateau.core.signal import LEARNING_RATES
from lightning_plateau.testing import history
from lightning_plateau.tuning.narrowing import narrowed
from lightning_plateau.tuning.space import Space
from lightning_plateau.tuning.spaces import learning_rate, standard


def found(code, confidence=0.9, severity=Severity.ERROR, explained_by="", size=0.5):
    evidence = (Evidence("update", size, 0.1),)
    return Finding(
        code, "name", 0, severity, confidence, "seen", evidence, explained_by=explained_by
    )


def run(rate=0.5, decay=0.0):
    groups = (GroupFact(("w",), {"weight_decay": decay}),)
    profile = Profile(optimizers=(OptimizerFact("SGD", groups),))
    return history({LEARNING_RATES: {"0": [rate]}}, profile=profile, loss=[1.0])


def range_of(made, name="learning_rate"):
    one = made.space.dimensions[name].distribution
    return one.low, one.high


def test_too_high_is_searched_below_and_begun_where_updates_are_ordinary() -> None:
    made = narrowed((found("LP406"),), run())
    assert range_of(made) == pytest.approx((2.5e-4, 0.25))
    assert made.first == {"learning_rate": pytest.approx(0.01)}
    assert made.space.dimensions["learning_rate"].widest == (1e-8, 0.25)
    assert "0.5 was too high" in made.reasons[0]


def test_too_low_is_searched_above() -> None:
    made = narrowed((found("LP407", size=1e-6),), run(1e-6))
    assert range_of(made) == pytest.approx((2e-6, 2e-3))
    assert made.first["learning_rate"] == pytest.approx(1e-3)


@pytest.mark.parametrize("code", ["LP406", "LP407"])
def test_it_counts_though_another_finding_explains_it(code) -> None:
    made = narrowed((found("LP413"), found(code, explained_by="LP413")), run(0.5, decay=0.3))
    low, high = range_of(made)
    assert high < 0.5 if code == "LP406" else low > 0.5
    assert range_of(made, "weight_decay")[1] == pytest.approx(0.1)


def test_overfitting_is_searched_among_what_regularizes() -> None:
    warning = found("LP801", severity=Severity.WARNING)
    made = narrowed((warning,), run(decay=1e-3))
    assert {"weight_decay", "dropout"} <= set(made.space.dimensions)
    assert range_of(made, "weight_decay")[0] == pytest.approx(1e-3)


def test_exploding_gradients_are_searched_with_clipping() -> None:
    assert "gradient_clip_val" in narrowed((found("LP301"),), run()).space.dimensions


def test_a_healthy_run_narrows_nothing() -> None:
    made = narrowed((), run())
    assert (made.space, made.reasons, made.first) == (standard, (), {})


def test_a_range_that_the_user_gave_is_cut_and_never_left() -> None:
    given = Space.of({"learning_rate": FloatDistribution(1e-2, 1.0, log=True)})
    assert range_of(narrowed((found("LP406"),), run(), given)) == pytest.approx((1e-2, 0.25))
    beyond = narrowed((found("LP406"),), run(1e-3), given)
    assert range_of(beyond) == (1e-2, 1.0)
    assert "is kept" in beyond.reasons[0]


def test_a_fault_of_data_or_code_is_an_obstacle() -> None:
    made = narrowed((found("LP701", 1.0), found("LP406", explained_by="LP701")), run())
    assert made.obstacle is not None
    assert made.obstacle.code == "LP701"
    assert narrowed((found("LP701", 0.5),), run(), learning_rate).obstacle is None
