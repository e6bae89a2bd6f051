from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS, LOSS
from lightning_plateau.testing import history

pytest.importorskip("matplotlib")
EXPLODING = Finding(
    "LP301",
    "exploding-gradients",
    80,
    Severity.ERROR,
    0.9,
    "the gradient norm rose from 2 to 4e9",
    evidence=(
        Evidence(GRADIENT_NORM.tag, 4e9, 10.0, "now"),
        Evidence("growth in words", 3.0, unit="decades"),
    ),
)


def titles(figure):
    return [axes.get_title("left") for axes in figure.axes]


def test_each_measured_value_stands_beside_its_limit():
    figure = EXPLODING.plot()
    assert titles(figure) == [
        "gradient norm (now): 4e+09, limit 10",
        "growth in words: 3 decades",
    ]
    assert figure.axes[0].get_xscale() == "log"
    assert "LP301 exploding-gradients (likely, step 80)" in figure.get_suptitle()
    figure.canvas.draw()


def test_with_the_run_the_course_of_what_was_measured_and_of_the_loss_is_drawn():
    made = history({LOSS: np.linspace(2, 1, 100), GRADIENT_NORM: np.geomspace(1, 1e9, 100)})
    figure = EXPLODING.plot(made)
    assert [axes.get_ylabel() for axes in figure.axes] == ["", "", "gradient norm", "training loss"]
    course = figure.axes[2]
    marks = [line.get_xdata()[0] for line in course.lines if line.get_linestyle() == ":"]
    assert (marks, course.get_yscale()) == ([80], "log")
    assert len(course.lines) == 3
    figure.canvas.draw()


def test_the_layer_at_fault_is_set_off_from_the_others():
    layers = {f"net.{i}.weight": [1.0, 2.0, 3.0] for i in range(4)}
    fault = replace(EXPLODING, evidence=(Evidence(GRADIENT_NORMS.tag, 3.0, 1.0, "net.2.weight"),))
    figure = fault.plot(history({GRADIENT_NORMS: layers}))
    (named,) = figure.axes[1].get_legend_handles_labels()[1]
    assert named == "net.2.weight"
    assert len(figure.axes[1].lines) == 4 + 1 + 2
    figure.canvas.draw()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300, 0.0])
@pytest.mark.parametrize("limit", [None, float("nan"), 0.0, 1.0])
def test_any_value_is_drawn_without_complaint(value, limit, recwarn):
    fault = replace(EXPLODING, evidence=(Evidence(LOSS.tag, value, limit),))
    fault.plot(history(loss=[value, 1.0, value])).canvas.draw()
    replace(EXPLODING, evidence=()).plot().canvas.draw()
    assert not list(recwarn)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"lightning-plateau\[report\]"):
        EXPLODING.plot()
