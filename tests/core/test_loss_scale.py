from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.core.chance import guessing, summed
from lightning_plateau.core.evaluation_gap import evaluation_gap
from lightning_plateau.core.generalization import generalization
from lightning_plateau.core.history import History
from lightning_plateau.core.loss_scale import loss_scale
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.signal import VALIDATION_LOSS
from lightning_plateau.testing import history
from tests.rules.taped import labels, points, taped

Loss = Callable[[Tensor, Tensor], Tensor]


def seen(loss: Loss, y: Tensor) -> History:
    return taped(lambda net, x, y: loss(net(x), y), nn.Linear(4, 3), points(), y)


def scale(loss: Loss, y: Tensor) -> float | None:
    tape = seen(loss, y).tapes[0]
    [comparison] = comparisons(tape)
    return loss_scale(tape, comparison)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (F.mse_loss, 1.0),
        (lambda p, y: F.mse_loss(p, y) * 0.25, 0.25),
        (lambda p, y: F.mse_loss(p, y, reduction="sum"), 48.0),
        (lambda p, y: F.mse_loss(p, y, reduction="sum") / 16, 3.0),
        (lambda p, y: F.mse_loss(p, y, reduction="none").sum(1).mean(), 3.0),
        (lambda p, y: ((p - y) ** 2).mean(), 1.0),
        (lambda p, y: ((p - y) ** 2).sum(), 48.0),
        (lambda p, y: (p - y).abs().sum(1).mean(), 3.0),
    ],
)
def test_scales(loss: Loss, expected: float) -> None:
    found = scale(loss, points(features=3, seed=1))
    assert found is not None
    assert math.isclose(found, expected, rel_tol=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, y: F.mse_loss(p, y) + p.square().mean() * 9,
        lambda p, y: F.mse_loss(p, y).sqrt(),
        lambda p, y: (F.mse_loss(p, y, reduction="none") * y.abs()).mean(),
        lambda p, y: ((p - y) ** 4).mean(),
    ],
    ids=["two parts", "root", "weighed", "fourth power"],
)
def test_what_is_more_than_a_scale_is_unknown(loss: Loss) -> None:
    assert scale(loss, points(features=3, seed=1)) is None


def test_the_loss_of_guessing_is_as_many_times_as_large() -> None:
    whole = guessing(seen(lambda p, y: F.cross_entropy(p, y, reduction="sum"), labels()))
    assert whole is not None
    assert math.isclose(whole.loss, 16 * math.log(3))


def test_a_sum_is_not_compared_with_that_of_other_batches() -> None:
    torch.manual_seed(0)
    series = {VALIDATION_LOSS: [400.0, 300.0, 200.0]}
    losses = [17.0] * 40 + [3.0] * 80
    for reduction, known in (("mean", 3), ("sum", 0)):
        tapes = seen(lambda p, y, r=reduction: F.cross_entropy(p, y, reduction=r), labels()).tapes
        run = history(series, loss=losses, every=40, tapes=tapes, epoch_ends=[40, 80, 120])
        assert summed(run) is (reduction == "sum")
        assert len(generalization(run)) == known
    assert evaluation_gap(run) is None
