from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.rules.initial_loss_off import InitialLossOff
from lightning_plateau.testing import history
from tests.rules.taped import Loss, labels, points, taped

RULE = InitialLossOff()


def classes(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def binary(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(net(x)[:, 0], (y % 2).float())


def squares(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x)[:, 0], y.float())


def begun(loss: Loss, first: float, *more: float) -> History:
    run = taped(loss, nn.Linear(4, 3), points(), labels())
    return history(loss=[first, *more], profile=run.profile, tapes=run.tapes)


@pytest.mark.parametrize("loss", [classes, binary])
@pytest.mark.parametrize("first", [5.0, 50.0, 1e6])
def test_far_above_chance(loss: Loss, first: float) -> None:
    found = RULE.check(begun(loss, first, 0.9 * first))
    assert found is not None
    assert found.evidence[0].value > 3


def test_the_further_the_surer() -> None:
    near, far = RULE.check(begun(classes, 5.0)), RULE.check(begun(classes, 5000.0))
    assert near is not None
    assert far is not None
    assert near.certainty == "possible"
    assert far.certainty == "likely"


@pytest.mark.parametrize("first", [1.1, 0.2, 2.5, float("nan"), float("inf"), -3.0])
def test_near_chance_below_it_or_not_finite(first: float) -> None:
    assert RULE.check(begun(classes, first, 1.0)) is None


def test_a_regression_has_no_such_level() -> None:
    assert RULE.check(begun(squares, 1e4, 1e3)) is None


def test_a_sum_has_no_such_level() -> None:
    def summed(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(net(x), y, reduction="sum")

    assert RULE.check(begun(summed, 17.6, 17.0)) is None


def test_only_the_beginning_counts() -> None:
    run = begun(classes, 1.1, 50.0, 60.0)
    assert RULE.check(run) is None
    assert RULE.check(run.since(1)) is None
    later = tuple(replace(tape, step=50) for tape in run.tapes)
    assert RULE.check(replace(begun(classes, 50.0), tapes=later)) is None


def test_torch_starts_at_chance() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
    value = float(classes(net, points(), labels()).detach())
    assert RULE.check(begun(classes, value)) is None
