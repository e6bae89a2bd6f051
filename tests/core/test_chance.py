from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.core.chance import chance_loss, chance_of_each, guessing_by_frequency
from lightning_plateau.core.signal import LABEL_COUNTS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.testing import history
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


@pytest.mark.parametrize("low", [0.0, 0.3])
def test_each_share_is_guessed_by_its_own_mean(low: float):
    means = torch.tensor([0.5, 0.5 + low, 0.5 - low])
    y = (torch.rand(4096, 3, generator=torch.Generator().manual_seed(0)) < means).float()
    chance = chance_of_each(
        taped(
            lambda net, x, y: F.binary_cross_entropy_with_logits(net(x), y),
            nn.Linear(4, 3),
            points(4096),
            y,
        )
    )
    entropy = torch.distributions.Bernoulli(y.mean(0)).entropy().mean()
    assert chance == pytest.approx(float(entropy), rel=0.02)


def test_padding_that_the_loss_leaves_out_is_no_class():
    weight, y = Operand("parameter", name="w"), Operand("batch", 1, "1", (64,))
    fc = Operation(0, "linear", "", (Operand("batch", 0, "0"), weight), (64, 4))
    sides = (Operand("operation", 0, shape=(64, 4)), y)
    counts = {"0": [80.0] * 9, "1": [14.0] * 9, "2": [4.0] * 9, "3": [2.0] * 9}
    frequencies = torch.tensor([14.0, 4.0, 2.0])
    entropy = float(torch.distributions.Categorical(frequencies).entropy())
    for ignored, least in ((0, entropy), (-100, 0.6)):
        loss = Operation(1, "cross_entropy", "", sides, attributes={"ignore_index": ignored})
        guess = guessing_by_frequency(
            history({LABEL_COUNTS: counts}, loss=[1.0] * 9, tapes=[Tape(0, (fc, loss), root=1)])
        )
        assert guess is not None
        assert guess.uneven
        assert guess.loss == pytest.approx(least, abs=0.1)
