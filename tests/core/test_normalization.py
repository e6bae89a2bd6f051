from __future__ import annotations

import math

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.normalization import Moments, batch_norm_calls, latest_moments
from lightning_plateau.core.signal import NORMALIZATION_BATCH_VARIANCE
from tests.rules.normalized import run, statistics
from tests.rules.taped import labels, points, taped


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def test_calls_of_modules_and_their_modes() -> None:
    net = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False).eval(), nn.Linear(8, 3)
    )
    first, second = batch_norm_calls(taped(loss, net, points(), labels()).tapes[0])
    assert (first.name, first.scale, first.training, first.channels) == ("1", "1.weight", True, 8)
    assert (second.name, second.scale, second.training) == ("2", "", False)
    assert first.momentum == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("seen", "disparity"),
    [
        (Moments(0, 0.0, 1.0, 0.0, 1.0), 1.0),
        (Moments(0, 0.0, 1.0, 0.0, 0.25), 2.0),
        (Moments(0, 0.0, 4.0, 6.0, 4.0), 3.0),
    ],
    ids=["the same", "scale", "mean"],
)
def test_disparity(seen: Moments, disparity: float) -> None:
    assert seen.disparity == pytest.approx(disparity)


def test_a_layer_that_is_constant_has_a_finite_disparity() -> None:
    assert math.isfinite(Moments(0, 0.0, 0.0, 5.0, 0.0).disparity)


def test_moments_are_of_one_step() -> None:
    seen = run(measured=statistics(batch=(0.0, 9.0)))
    assert latest_moments(seen)["bn"].step == 80
    shorter = {
        **seen.series,
        NORMALIZATION_BATCH_VARIANCE.tag: seen[NORMALIZATION_BATCH_VARIANCE].until(50),
    }
    assert latest_moments(History(series=shorter))["bn"].step == 40
    assert latest_moments(History()) == {}
