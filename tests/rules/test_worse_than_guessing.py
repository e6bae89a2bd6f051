from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, huber_loss, l1_loss, mse_loss

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.signal import LEARNING_RATES
from lightning_plateau.rules.worse_than_guessing import WorseThanGuessing
from lightning_plateau.testing import history
from tests.rules.taped import Loss, labels, points, taped

RULE = WorseThanGuessing()
TARGETS = points(features=1, seed=1)
VARIANCE = float(TARGETS.var(correction=0))
SAMPLES = len(TARGETS)


def classes(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x), y)


def summed(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x), y, reduction="sum")


def divided(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x), y, reduction="none").sum() / 100


def numbers(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return mse_loss(net(x)[:, :1], y)


def squares_by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ((net(x)[:, :1] - y) ** 2).sum() * 3.0


def magnitudes_by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (net(x)[:, :1] - y).abs().mean()


def distances(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return l1_loss(net(x)[:, :1], y)


def robust(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return huber_loss(net(x)[:, :1], y, delta=0.5)


def weighed(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x), y, weight=torch.tensor([9.0, 9.0, 9.0]), reduction="sum")


def run(
    losses: Sequence[float] | Any, loss: Loss = classes, y: Tensor | None = None, **more: Any
) -> History:
    steps = len(losses)
    tapes = taped(loss, nn.Linear(4, 3), points(), labels() if y is None else y).tapes
    return history(loss=losses, tapes=tapes, epoch_ends=[steps // 2, steps], **more)


def noisy(level: float, steps: int = 200, noise: float = 0.05) -> Any:
    return level * (1 + np.random.default_rng(0).normal(0, noise, steps))


CEILINGS = [
    (classes, None, math.log(3)),
    (summed, None, SAMPLES * math.log(3)),
    (divided, None, SAMPLES * math.log(3) / 100),
    (numbers, TARGETS, VARIANCE),
    (squares_by_hand, TARGETS, 3 * SAMPLES * VARIANCE),
    (magnitudes_by_hand, TARGETS, VARIANCE**0.5),
    (distances, TARGETS, VARIANCE**0.5),
    (robust, TARGETS, 0.5 * VARIANCE**0.5),
]


@pytest.mark.parametrize(("loss", "y", "ceiling"), CEILINGS)
def test_a_loss_that_stays_above_is_told_whatever_its_scale(
    loss: Loss, y: Tensor | None, ceiling: float
) -> None:
    finding = RULE.check(run(noisy(5 * ceiling), loss, y))
    assert finding is not None
    assert f"one constant answer ({ceiling:.4g})" in finding.message


@pytest.mark.parametrize(("loss", "y", "ceiling"), CEILINGS)
def test_a_loss_at_guessing_and_below_is_not_told(
    loss: Loss, y: Tensor | None, ceiling: float
) -> None:
    assert RULE.check(run(noisy(1.02 * ceiling), loss, y)) is None
    assert RULE.check(run(noisy(0.3 * ceiling), loss, y)) is None


def test_the_noise_of_long_ago_hides_nothing() -> None:
    level = VARIANCE * np.maximum(3.0, 3000.0 * np.exp(-np.arange(200) / 20.0))
    losses = level * np.random.default_rng(0).lognormal(0.0, 0.3, 200)
    assert RULE.check(run(losses, numbers, TARGETS, finished=True)) is not None


def test_a_loss_that_falls_from_very_high_and_ends_there_is_told() -> None:
    losses = np.geomspace(4000.0, 40.0, 300)
    assert RULE.check(run(losses, finished=True)) is not None


@pytest.mark.parametrize(
    "healthy",
    [
        run(np.linspace(20.0, 10.0, 100), profile=Profile(planned_steps=400)),
        run(np.geomspace(300.0, 0.1, 200)),
        run(noisy(1.3, noise=0.8)),
        run(noisy(9.0, steps=30)),
        run(noisy(9.0), profile=Profile(planned_steps=100_000)),
        run(noisy(9.0), weighed),
        run(noisy(9.0), profile=Profile(optimizers=(OptimizerFact("Adam"),) * 2)),
        history({LEARNING_RATES: {"0": np.linspace(0, 1, 200)}}, loss=noisy(9.0)),
        history(loss=noisy(9.0), epoch_ends=[100]),
        history(loss=[math.nan] * 100, epoch_ends=[100]),
    ],
    ids=[
        "on its way by the planned end",
        "below by now",
        "within its noise",
        "young",
        "patient",
        "weighted sum",
        "adversaries",
        "warming up",
        "unknown loss",
        "not finite",
    ],
)
def test_it_is_silent_where_it_cannot_know_or_all_is_well(healthy: History) -> None:
    assert RULE.check(healthy) is None
