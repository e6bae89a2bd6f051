from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.rules.softmax_between_layers import SoftmaxBetweenLayers
from tests.rules.taped import labels, points, taped

RULE = SoftmaxBetweenLayers()


def images(samples: int = 16) -> Tensor:
    return torch.randn(samples, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


class Functional(nn.Module):
    """A softmax called as a function, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.softmax(self.first(x), dim=-1)
        return self.third(torch.softmax(self.second(x), 1))


class Gated(nn.Module):
    """Experts weighed by a softmax, and attention by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 6), nn.ModuleList(nn.Linear(4, 8) for _ in range(6))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs = torch.stack([expert(x) for expert in self.experts], 1)
        return self.head((self.gate(x).softmax(1)[..., None] * outputs).sum(1).relu())


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (nn.Sequential(nn.Linear(4, 8), nn.Softmax(1), nn.Linear(8, 3)), points()),
        (nn.Sequential(nn.Linear(4, 8), nn.Softmax(1), nn.Dropout(), nn.Linear(8, 3)), points()),
        (Functional(), points()),
        (
            nn.Sequential(
                nn.Conv2d(2, 8, 3),
                nn.Softmax(1),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(32, 3),
            ),
            images(),
        ),
    ],
)
def test_a_softmax_in_the_place_of_an_activation(net, x):
    found = RULE.check(taped(loss, net, x, labels()))
    assert found is not None
    assert found.code == "LP506"
    assert "softmax over 8 units: each is about 0.125" in found.message


def test_two_of_them_are_counted():
    found = RULE.check(taped(loss, Functional(), points(), labels()))
    assert found is not None
    assert found.message.endswith("and so in 1 more place")


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
        nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 3), nn.Softmax(1)),
        nn.Sequential(nn.Linear(4, 2), nn.Softmax(1), nn.Linear(2, 3)),
        Gated(),
    ],
)
def test_activations_gates_and_outputs_are_left_alone(net):
    assert RULE.check(taped(loss, net, points(), labels())) is None


def test_attention_is_left_alone():
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def pooled(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(net(x).mean(1), y)

    x = torch.randn(16, 5, 8, generator=torch.Generator().manual_seed(0))
    assert RULE.check(taped(pooled, net, x, labels())) is None
