from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.core.chance import chance_loss
from tests.rules.taped import points, taped


def squared(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x), y)


def by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ((net(x) - y) ** 2).mean()


@pytest.mark.parametrize("loss", [squared, by_hand])
def test_each_output_is_guessed_by_its_own_mean(loss):
    means = torch.tensor([-3.0, 0.0, 5.0])
    y = points(512, 3, seed=1) + means
    chance = chance_loss(taped(loss, nn.Linear(4, 3), points(512), y))
    assert chance == pytest.approx(float(y.var(dim=0).mean()), rel=1e-4)


def test_a_column_of_targets_is_guessed_by_its_mean():
    y = points(512, 1, seed=1) + 7.0
    chance = chance_loss(taped(squared, nn.Linear(4, 1), points(512), y))
    assert chance == pytest.approx(float(y.var(correction=0)), rel=1e-4)


def test_one_sample_tells_no_spread_of_an_output():
    y = points(1, 3, seed=1)
    chance = chance_loss(taped(squared, nn.Linear(4, 3), points(1), y))
    assert chance == pytest.approx(float(y.var(correction=0)), rel=1e-4)
