from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.core.signal import (
    EXPERIMENT_GRADIENT_FLOW,
    EXPERIMENT_LEARNING_CURVE,
    EXPERIMENT_LEARNING_RATES,
    EXPERIMENT_OVERFIT,
    EXPERIMENT_STEP_SIZE,
    EXPERIMENT_ZERO_INPUTS,
    LOSS,
    Signal,
)
from lightning_plateau.report.experiment_charts import Chart, experiment_charts
from lightning_plateau.report.figures import figures
from lightning_plateau.testing import history

MULTIPLES = ("0", "0.1", "0.3", "1", "3", "10")
NAN, INF = float("nan"), float("inf")


def chart(signal: Signal, **rows: list[float]) -> Chart:
    (made,) = experiment_charts(history({signal: rows}, every=0))
    return made


def along(*losses: float) -> Chart:
    return chart(EXPERIMENT_STEP_SIZE, **dict(zip(MULTIPLES, ([v] for v in losses), strict=True)))


def test_a_run_without_experiments_has_none():
    assert experiment_charts(history(loss=[2.0, 1.0])) == ()


def test_where_the_loss_falls_along_an_update_is_seen_though_it_explodes_further_on():
    made = along(2.3, 2.25, 2.2, 2.1, 40.0, 1e9)
    assert made.beyond == (False, False, False, False, True, True)
    start, *_, lowest, _, _ = made.shares
    assert start - lowest > 0.1
    assert made.paths[-1].count("L") == 5
    assert made.dots.count("M") == 4


def test_what_is_not_finite_is_a_gap_that_is_named():
    made = along(2.3, NAN, 2.2, INF, 2.4, 2.5)
    assert made.words == ("2.3", "not finite", "2.2", "not finite", "2.4", "2.5")
    assert made.beyond[1]
    assert made.paths[-1].count("M") == 3
    assert "1 not finite" in made.text


def test_each_batch_has_a_line_and_the_median_is_the_last():
    losses = {name: [1.0, 2.0, 9.0] for name in MULTIPLES}
    (made,) = experiment_charts(history({EXPERIMENT_STEP_SIZE: losses}, every=0))
    assert len(made.paths) == 4
    assert made.middle.tolist() == [2.0] * 6


def test_only_the_last_time_that_it_was_made_is_drawn():
    twice = {name: [9.0, 1.0] for name in ("real", "zeroed", "swapped")}
    (made,) = experiment_charts(history({EXPERIMENT_ZERO_INPUTS: twice}, every=50))
    assert made.values.tolist() == [[1.0, 1.0, 1.0]]


def test_bars_begin_at_zero_and_leave_out_what_was_not_tried():
    made = chart(EXPERIMENT_OVERFIT, before=[2.0], own=[1.0], adam=[NAN], blind=[NAN])
    assert (made.kind, made.conditions) == ("bars", ("before", "own optimizer"))
    assert (made.zero, *made.shares) == (0.0, 1.0, 0.5)
    below = chart(EXPERIMENT_OVERFIT, before=[1.0], own=[-3.0])
    assert (below.zero, *below.shares) == (0.75, 1.0, 0.0)


def test_shares_of_the_data_are_percent():
    made = chart(EXPERIMENT_LEARNING_CURVE, **{"0.25": [1.0], "1": [0.5]})
    assert made.conditions == ("25 %", "100 %")
    assert made.said == "four times the data lowers the loss of unseen batches by 50 %"


def test_many_layers_have_some_names_and_an_axis_in_place_of_values():
    flow = {f"blocks.{i}.linear": [10.0**-i] for i in range(30)}
    (made,) = experiment_charts(history({EXPERIMENT_GRADIENT_FLOW: flow}))
    assert made.labelled == (0, 15, 29)
    assert not made.written
    assert made.scale.log


def test_the_best_learning_rate_is_said():
    made = chart(EXPERIMENT_LEARNING_RATES, **{"0.1": [2.0], "1": [1.0], "10": [7.0]})
    assert made.said == "your learning rate is the best of those tried"


@pytest.mark.parametrize("losses", [(NAN,) * 6, (INF,) * 6, (0.0,) * 6, (-2.0, -3, -4, -5, -6, 9)])
def test_hardly_anything_is_drawn_without_complaint(losses, recwarn):
    made = along(*losses)
    assert all(0 <= share <= 1 for share in made.shares)
    for figure in figures(history({EXPERIMENT_STEP_SIZE: _columns(losses)}, every=0)).values():
        figure.canvas.draw()
    assert not list(recwarn)


def test_every_chart_has_a_figure():
    rows = {
        LOSS: [2.0, 1.0],
        EXPERIMENT_STEP_SIZE: _columns((2.3, 2.25, 2.2, 2.1, 40.0, 1e9)),
        EXPERIMENT_ZERO_INPUTS: {"real": [2.0], "zeroed": [2.3], "swapped": [2.4]},
    }
    drawn = figures(history(rows))
    assert list(drawn) == ["loss", "zero-inputs", "step-size"]
    assert drawn["step-size"].axes[0].get_ylim()[1] < 10
    for figure in drawn.values():
        figure.canvas.draw()
    assert np.isfinite(drawn["zero-inputs"].axes[0].get_xlim()).all()


def _columns(losses):
    return dict(zip(MULTIPLES, ([v] for v in losses), strict=True))
