from __future__ import annotations

import sys

import numpy as np
import pytest

from lightning_plateau.core.journal import Journal
from lightning_plateau.core.remedy import Intervention
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS, VALIDATION_LOSS
from lightning_plateau.report.events import events
from lightning_plateau.report.plots import overview, save_overview
from lightning_plateau.testing import history
from tests.report.runs import CLIP, DECAY, FLAT, KEPT, cause, journal, recorded, treated_journal


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_finding_and_action_is_labelled_on_one_axis_of_steps():
    figure = overview(recorded(), treated_journal())
    assert words(figure) == [
        "LP406 learning-rate-too-high (likely)",
        "decay-learning-rate (learning_rate 5 → 0.5): kept",
        "clip-gradients (clip none → 1): reverted",
    ]
    limits = {axes.get_xlim() for axes in figure.axes}
    assert len(limits) == 1
    assert [axes.get_ylabel() for axes in figure.axes[1:]] == [
        "loss",
        "gradient norm",
        "learning rate",
    ]


def test_steps_that_are_not_finite_are_marked_and_counted():
    labels = overview(recorded(), Journal()).axes[1].get_legend_handles_labels()[1]
    assert "NaN or infinite (8 steps)" in labels


def test_scales_follow_the_values():
    loss, gradient = overview(recorded(), Journal()).axes[1:3]
    assert (loss.get_yscale(), gradient.get_yscale()) == ("log", "log")
    flat = overview(history(loss=2.3 + 0.01 * np.sin(np.arange(99.0))), Journal())
    assert flat.axes[1].get_yscale() == "linear"
    negative = overview(history(loss=np.linspace(100.0, -5.0, 99)), Journal())
    assert negative.axes[1].get_yscale() == "linear"


@pytest.mark.parametrize(
    "made",
    [
        history(),
        history(loss=[1.0]),
        history(loss=[np.nan] * 100),
        history({LOSS: [np.inf, -np.inf, 1e308, 0.0], GRADIENT_NORM: [0.0] * 4}),
        history({VALIDATION_LOSS: [np.nan, 1e-300]}),
    ],
    ids=["empty", "one step", "all NaN", "extremes", "validation only"],
)
def test_any_history_can_be_drawn(made, tmp_path):
    assert save_overview(tmp_path / "deep" / "overview.png", made, Journal()).stat().st_size > 1000


def test_pyplot_is_left_alone(tmp_path):
    from matplotlib import pyplot

    open_before = pyplot.get_fignums()
    save_overview(tmp_path / "overview.svg", recorded(), treated_journal())
    assert pyplot.get_fignums() == open_before


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"lightning-plateau\[report\]"):
        overview(recorded(), Journal())


def test_symptoms_and_repeated_findings_are_no_events():
    found = events(journal(FLAT, cause("LP301", 5), cause("LP301", 9)), most=9)
    assert [(event.step, event.kind) for event in found] == [(5, "finding")]


def test_equal_remedies_in_a_row_are_one_event():
    guards = [Intervention(9 + n, 10 * n, "skip-step", "LP202") for n in range(1, 5)]
    found = events(journal(*guards, DECAY, CLIP, KEPT), most=9)
    skipped = next(event for event in found if event.text.startswith("skip-step"))
    assert (skipped.step, skipped.end, skipped.text) == (10, 40, "skip-step × 4: in force")


def test_events_that_find_no_room_are_counted():
    found = events(journal(*(cause(f"LP3{n:02}", n) for n in range(12))), most=9)
    assert len(found) == 9
    assert found[-1].text.endswith("(+ 3 later events)")
