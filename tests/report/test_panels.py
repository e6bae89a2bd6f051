from __future__ import annotations

import numpy as np

from lightning_plateau.core.signal import LEARNING_RATES, LOSS, LOSS_PER_OPTIMIZER, UPDATE_RATIOS
from lightning_plateau.report.panels import numbers, panels
from lightning_plateau.testing import history
from tests.report.runs import recorded


def test_only_what_was_recorded_is_drawn():
    assert panels(history()) == ()
    assert [p.key for p in panels(recorded())] == ["loss", "gradient", "rate"]
    ratios = history({UPDATE_RATIOS: {"a.weight": [0.1, 0.2], "a.bias": [9.0, 9.0]}}, every=50)
    assert [p.key for p in panels(ratios)] == ["update"]


def test_values_that_are_not_finite_are_gaps_and_are_counted():
    loss = panels(recorded())[0]
    assert loss.broken == 8
    assert loss.gaps.count("M") == 8
    assert loss.lines[0].path.count("M") == 2


def test_a_lone_value_is_seen_as_a_dot():
    (loss,) = panels(history(loss=[np.nan, 2.0, np.nan]))
    assert loss.lines[0].dots.count("M") == 1


def test_a_learning_rate_holds_until_the_next_one():
    made = history({LEARNING_RATES: {"0": [1.0, 0.1]}}, every=50, step=100)
    (rate,) = panels(made)
    assert rate.lines[0].steps.tolist() == [0, 50, 50, 100]
    assert rate.lines[0].values.tolist() == [1.0, 1.0, 0.1, 0.1]


def test_each_optimizer_of_several_has_a_curve():
    made = history({LOSS: [1.0, 1.0], LOSS_PER_OPTIMIZER: {"0": [1.0, 1.0], "1": [2.0, 2.0]}})
    assert [line.name for line in panels(made)[0].lines] == ["optimizer 0", "optimizer 1"]


def test_the_plot_is_told_in_words_and_numbers():
    (loss,) = panels(history(loss=[2.0, 1.5, 1.0]))
    assert "training: 2 at step 0, 1 at step 2; lowest 1 at step 2" in loss.text
    assert numbers(loss)[-1] == (2, ("1",))
