from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.rules.over_regularized import OverRegularized
from lightning_plateau.testing import history
from tests.rules.taped import labels, points, taped

RULE = OverRegularized()
FALLING = [1.1 * 0.98**step for step in range(100)]
STUCK = [1.1] * 100


def network(*drops: float) -> nn.Module:
    torch.manual_seed(0)
    layers = [layer for p in drops for layer in (nn.Linear(4, 4), nn.Dropout(p))]
    return nn.Sequential(*layers, nn.Linear(4, 3))


def dropped(*drops: float, losses: Sequence[float] = STUCK, train: bool = True) -> History:
    net = network(*drops).train(train)
    tape = taped(lambda net, x, y: cross_entropy(net(x), y), net, points(), labels()).tapes
    return history(loss=losses, tapes=tape, epoch_ends=[50, 100], finished=True)


def penalized(factor: float, *sizes: float) -> History:
    """Return a run that was taped with weights of ``sizes`` times their first size."""
    tapes = []
    for number, size in enumerate(sizes):
        net = network()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(size)

        def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            norm = sum(p.square().sum() for p in net.parameters())
            return cross_entropy(net(x), y) + factor * norm

        [tape] = taped(loss, net, points(), labels()).tapes
        tapes.append(replace(tape, step=50 * number))
    return history(loss=STUCK, tapes=tapes, epoch_ends=[50, 100])


def test_a_penalty_that_outweighs_the_data() -> None:
    found = RULE.check(penalized(1000.0, 0.1, 0.01, 0.001))
    assert found is not None
    assert found.severity is Severity.ERROR
    assert found.certainty == "likely"
    assert "% of the loss; that of the data went from" in found.message


@pytest.mark.parametrize("drops", [(0.9,), (0.95,), (0.7, 0.7)])
def test_dropout_that_lets_hardly_anything_through(drops: tuple[float, ...]) -> None:
    found = RULE.check(dropped(*drops))
    assert found is not None
    assert found.certainty == "likely"


def test_strong_dropout_is_possible_where_the_loss_stays_at_its_start() -> None:
    found = RULE.check(dropped(0.6))
    assert found is not None
    assert found.certainty == "possible"
    assert found.where == "1 (dropout)"


@pytest.mark.parametrize(
    "healthy",
    [
        dropped(0.5),
        dropped(0.9, losses=FALLING),
        dropped(0.6, losses=[1.1, *[0.8] * 99]),
        dropped(0.9, train=False),
        penalized(0.01, 1.0, 0.1, 0.01),
        penalized(100.0, 1.0),
        replace(dropped(0.9), epoch_ends=()),
        History(),
    ],
    ids=[
        "the usual dropout",
        "strong, and the loss falls",
        "half, and the loss is below its start",
        "not active",
        "a light penalty",
        "too early to tell",
        "within the first epoch",
        "empty",
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


class Coded(nn.Module):
    """A variational autoencoder whose code tells of the input by ``voice``, beside noise."""

    def __init__(self, voice: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = nn.Linear(4, 8), nn.Linear(4, 4)
        with torch.no_grad():
            self.encoder.weight.mul_(voice)
            self.encoder.bias.zero_()
            self.decoder.weight.mul_(voice)


def coded(voice: float, losses: Sequence[float], **facts: bool) -> History:
    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        mean, logarithm = net.encoder(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (logarithm / 2).exp()
        price = -0.5 * (1 + logarithm - mean**2 - logarithm.exp()).sum(1).mean()
        return mse_loss(net.decoder(code), x) + price

    tapes = [
        replace(taped(loss, Coded(size), points(), labels()).tapes[0], step=50 * number)
        for number, size in enumerate((1.0, voice, voice))
    ]
    return history(loss=losses, tapes=tapes, epoch_ends=[50, 100], **facts)


def test_a_code_that_tells_nothing_any_more() -> None:
    found = RULE.check(coded(0.05, STUCK, finished=True))
    assert found is not None
    assert found.message.startswith("the code tells nothing: its divergence is")
    assert RULE.check(coded(0.05, STUCK)) is None  # it may recover


@pytest.mark.parametrize(("voice", "losses"), [(1.0, STUCK), (0.05, FALLING)])
def test_a_code_that_tells_something(voice: float, losses: Sequence[float]) -> None:
    assert RULE.check(coded(voice, losses, finished=True)) is None
