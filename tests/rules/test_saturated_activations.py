from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.rules.saturated_activations import SaturatedActivations
from tests.rules.taped import labels, points, taped

RULE = SaturatedActivations()


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def squared(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x)[:, 0], (y == 0).float())


def perceptron(scale: float = 1.0, squash: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 32), squash(), nn.Linear(32, 3))
    with torch.no_grad():
        net[0].weight.mul_(scale)
        net[0].bias.mul_(scale)
    return net


class Gated(nn.Module):
    """Gates that are nearly all open or shut."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value, self.head = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 3)
        with torch.no_grad():
            self.gate.weight.mul_(1000.0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.sigmoid(self.gate(x)) * self.value(x))
        return out


def run(*scales: float) -> History:
    """A run whose first layer has grown by a factor from tape to tape."""
    seen = [taped(loss, perceptron(scale), points(), labels()) for scale in scales]
    tapes = tuple(replace(one.tapes[0], step=50 * i) for i, one in enumerate(seen))
    return replace(seen[-1], tapes=tapes)


@pytest.mark.parametrize("squash", [nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Softsign])
def test_saturated_from_the_start(squash: type[nn.Module]) -> None:
    found = RULE.check(taped(loss, perceptron(1e4, squash), points(), labels()))
    assert found is not None
    assert found.certainty == "likely"
    assert "since the first step" in found.message


def test_driven_there_is_less_sure_than_from_the_start() -> None:
    driven, begun = RULE.check(run(1.0, 500.0, 500.0)), RULE.check(run(500.0, 500.0, 500.0))
    assert driven is not None
    assert begun is not None
    assert driven.confidence < begun.confidence
    assert "was not at first" in driven.message


def test_an_output_counts_only_from_the_start() -> None:
    flat = nn.Sequential(perceptron()[0], nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    with torch.no_grad():
        flat[2].weight.mul_(1e4)
    begun = taped(squared, flat, points(), labels())
    assert RULE.check(begun) is not None
    later = replace(begun, tapes=(replace(begun.tapes[0], step=50),))
    assert RULE.check(later) is None


@pytest.mark.parametrize(
    "well",
    [
        taped(loss, perceptron(), points(), labels()),
        taped(loss, perceptron(1.0, nn.Sigmoid), points(), labels()),
        taped(loss, perceptron(1e4, nn.ReLU), points(), labels()),
        taped(loss, Gated(), points(), labels()),
        run(1.0, 1.0, 500.0),
        History(),
    ],
    ids=["tanh", "sigmoid", "rectifier", "gates", "one tape only", "empty"],
)
def test_silent(well: History) -> None:
    assert RULE.check(well) is None
