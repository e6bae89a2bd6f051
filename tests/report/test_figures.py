from __future__ import annotations

import sys

import numpy as np
import pytest

from lightning_plateau.core.signal import (
    ACTIVATION_DEAD,
    GRADIENT_NORMS,
    NORMALIZATION_BATCH_VARIANCE,
    NORMALIZATION_RUNNING_VARIANCE,
)
from lightning_plateau.report.figures import figures
from lightning_plateau.testing import history
from tests.report.runs import recorded


def test_everything_that_was_recorded_has_a_figure():
    layers = {"a.weight": [1e-8, np.inf, 0.0], "b.weight": [0.1, 0.2, np.nan]}
    made = history(
        {
            GRADIENT_NORMS: layers,
            ACTIVATION_DEAD: {"relu": [0.0, 0.9]},
            NORMALIZATION_BATCH_VARIANCE: {"bn": [1.0, 10.0]},
            NORMALIZATION_RUNNING_VARIANCE: {"bn": [1.0, 1.0]},
        },
        every=50,
    )
    drawn = figures(recorded()) | figures(made)
    assert list(drawn) == ["loss", "gradient", "rate", "gradients", "dead", "drift"]
    for figure in drawn.values():
        figure.canvas.draw()
    assert drawn["loss"].axes[0].get_yscale() == "log"
    assert figures(history()) == {}


def test_figures_of_nothing_finite_are_drawn(recwarn):
    for figure in figures(history({GRADIENT_NORMS: {"a": [np.nan, np.nan]}})).values():
        figure.canvas.draw()
    assert not list(recwarn)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"lightning-plateau\[report\]"):
        figures(history(loss=[1.0, 2.0]))
