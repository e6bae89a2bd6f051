from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.signal import UPDATE_RATIOS, VALIDATION_LOSS
from lightning_plateau.rules.at_chance import AtChance
from lightning_plateau.testing import history
from tests.rules.taped import Loss, labels, points, taped

RULE = AtChance()
TARGETS = points(features=1, seed=1)
VARIANCE = float(TARGETS.var(correction=0))


def classes(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x), y)


def yes_or_no(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(net(x)[:, 0], (y % 2).float())


def numbers(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return mse_loss(net(x)[:, :1], y)


def penalized(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(net(x), y) + sum(p.square().sum() for p in net.parameters())


def run(losses: Sequence[float] | Any, loss: Loss = classes, y: Tensor | None = None) -> History:
    steps = len(losses)
    tapes = taped(loss, nn.Linear(4, 3), points(), labels() if y is None else y).tapes
    return history(loss=losses, tapes=tapes, epoch_ends=[steps // 2, steps])


def noisy(level: float, steps: int = 200, noise: float = 0.02) -> Any:
    return level * (1 + np.random.default_rng(0).normal(0, noise, steps))


@pytest.mark.parametrize(
    ("sick", "message"),
    [
        (run(noisy(math.log(3))), "among 3 classes gives 1.099"),
        (run([9.0, 4.0, 2.0, *noisy(math.log(3))]), "after 2 epochs"),
        (run(noisy(math.log(3), noise=0.1)), "after 2 epochs"),
        (run(noisy(VARIANCE), numbers, TARGETS), f"guessing gives {VARIANCE:.4g}"),
    ],
    ids=["classes", "from far above", "noisy", "numbers"],
)
def test_found(sick: History, message: str) -> None:
    found = RULE.check(sick)
    assert found is not None
    assert message in found.message


def test_the_loss_of_the_data_is_seen_beside_a_penalty() -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    [start] = taped(penalized, net, points(), labels()).tapes
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.001)
    [later] = taped(penalized, net, points(), labels()).tapes
    tapes = [start, replace(later, step=60), replace(later, step=99)]
    sick = history(loss=np.geomspace(9, 1.1, 100), tapes=tapes, epoch_ends=[50, 100])
    found = RULE.check(sick)
    assert found is not None
    assert found.message.startswith("the loss is 1.099 after 2 epochs")
    assert RULE.check(replace(sick, tapes=(start, start, later))) is None


def two_optimizers(history: History) -> History:
    return replace(history, profile=Profile(optimizers=(OptimizerFact("Adam"),) * 2))


@pytest.mark.parametrize(
    "other",
    [
        run(1.1 * np.exp(-0.02 * np.arange(200))),
        run(np.linspace(1.12, 1.0, 60)),
        run(noisy(0.8)),
        run(noisy(3.0)),
        run([1.1] * 10),
        run([math.nan] * 100),
        replace(run(noisy(math.log(3))), epoch_ends=()),
        two_optimizers(run(noisy(math.log(3)))),
        History(),
    ],
    ids=[
        "falls",
        "begins to fall",
        "below",
        "above",
        "too few steps",
        "not finite",
        "within the first epoch",
        "adversaries",
        "empty",
    ],
)
def test_silent(other: History) -> None:
    assert RULE.check(other) is None


def test_a_binary_loss_at_the_entropy_of_its_targets() -> None:
    share = float((labels() % 2).float().mean())
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    found = RULE.check(run(noisy(entropy), yes_or_no))
    assert found is not None
    assert "among 2 classes" in found.message


def test_a_run_is_given_a_tenth_of_its_plan() -> None:
    sick = run(noisy(math.log(3)))
    young = replace(sick, profile=replace(sick.profile, planned_steps=4000))
    assert RULE.check(young) is None
    assert RULE.check(replace(young, finished=True)) is not None


def test_a_validation_that_comes_down_clearly_is_given_time() -> None:
    tapes = run([math.log(3)] * 4).tapes
    for validation, silent in (([1.2, 1.0], True), ([1.2, 1.09], True), ([1.2, 1.2], False)):
        signals = {VALIDATION_LOSS: validation}
        at_chance = history(
            signals, loss=[math.log(3)] * 200, every=100, tapes=tapes, epoch_ends=[100, 200]
        )
        assert (RULE.check(at_chance) is None) is silent
        assert RULE.check(replace(at_chance, finished=True)) is not None


def test_validations_that_come_down_one_after_another_are_given_time() -> None:
    tapes = run([math.log(3)] * 4).tapes
    for validation, silent in (
        ([1.09, 1.075, 1.06], True),
        ([1.09, 1.06, 1.075], False),
        ([1.09, 1.06, 1.059], False),
        ([1.6, 1.21, 1.17, 1.14, 1.11], True),
        ([1.6, 1.21, 1.13, 1.11, 1.105], False),
        ([1.09, 1.089, 1.088], False),
    ):
        at_chance = history(
            {VALIDATION_LOSS: validation},
            loss=[math.log(3)] * 300,
            every=100,
            tapes=tapes,
            epoch_ends=[100, 200, 300],
        )
        assert (RULE.check(at_chance) is None) is silent
        assert RULE.check(replace(at_chance, finished=True)) is not None


def test_validations_that_crawl_by_tiny_updates_are_not_waited_for() -> None:
    tapes, validation = run([math.log(3)] * 4).tapes, [1.09, 1.075, 1.06]
    for ratio, silent in ((1e-2, True), (1e-4, False)):
        signals = {VALIDATION_LOSS: validation, UPDATE_RATIOS: {"fc.weight": [ratio] * 3}}
        at_chance = history(
            signals,
            loss=[math.log(3)] * 300,
            every=100,
            tapes=tapes,
            epoch_ends=[100, 200, 300],
        )
        assert (RULE.check(at_chance) is None) is silent
