from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.rules.missing_nonlinearity import MissingNonlinearity
from tests.rules.taped import labels, points, taped

RULE = MissingNonlinearity()


def images(samples: int = 16) -> Tensor:
    return torch.randn(samples, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


class ByHand(nn.Module):
    """Products and sums."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(8, 3))
        self.b1 = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (x @ self.w1 + self.b1) @ self.w2
        return out


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(4, 8).requires_grad_(False)
        self.down, self.up = nn.Linear(4, 2, bias=False), nn.Linear(2, 8, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.frozen(x) + self.up(self.down(x))))
        return out


class Attentive(nn.Module):
    """Self-attention by hand, with an embedding of the input that three projections share."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(1, 8), nn.Linear(8, 8)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x[..., None])
        weights = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(-1)
        out: Tensor = self.head((x + self.out(weights @ self.value(x))).mean(1))
        return out


LINEAR: dict[str, tuple[nn.Module, Tensor]] = {
    "perceptron": (nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)), points()),
    "with dropout and batch norm": (
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 3)),
        points(),
    ),
    "convolutions": (
        nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.Conv2d(4, 8, 2), nn.Flatten(), nn.Linear(8, 3)
        ),
        images(),
    ),
    "activation on the output only": (
        nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3), nn.ReLU()),
        points(),
    ),
    "by hand": (ByHand(), points()),
}
SOMEWHERE: dict[str, tuple[nn.Module, Tensor]] = {
    "one forgotten": (
        nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)),
        points(),
    ),
    "after convolutions": (
        nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, 3)
        ),
        images(),
    ),
}
HEALTHY: dict[str, tuple[nn.Module, Tensor]] = {
    "perceptron": (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), points()),
    "logistic regression": (nn.Linear(4, 3), points()),
    "bottleneck": (nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3)), points()),
    "low-rank adapter": (Adapted(), points()),
    "separable convolution": (
        nn.Sequential(
            nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 8, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(128, 3),
        ),
        images(),
    ),
    "inverted bottleneck": (
        nn.Sequential(
            nn.Conv2d(2, 16, 1), nn.ReLU6(), nn.Conv2d(16, 4, 1), nn.BatchNorm2d(4),
            nn.Conv2d(4, 16, 1), nn.ReLU6(), nn.Flatten(), nn.Linear(576, 3),
        ),
        images(),
    ),
    "attention": (Attentive(), points()),
    "layer norm": (nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3)), points()),
    "frozen body": (
        nn.Sequential(nn.Linear(4, 8).requires_grad_(False), nn.Linear(8, 3)),
        points(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LINEAR)
def test_linear_throughout_is_likely(kind: str) -> None:
    net, x = LINEAR[kind]
    found = RULE.check(taped(loss, net, x, labels()))
    assert found is not None
    assert found.certainty == "likely"
    assert "LP401" in found.explains


@pytest.mark.parametrize("kind", SOMEWHERE)
def test_a_pair_among_activations_is_possible(kind: str) -> None:
    net, x = SOMEWHERE[kind]
    found = RULE.check(taped(loss, net, x, labels()))
    assert found is not None
    assert found.certainty == "possible"
    assert not found.explains


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    net, x = HEALTHY[kind]
    assert RULE.check(taped(loss, net, x, labels())) is None


def test_names_the_second_layer() -> None:
    found = RULE.check(taped(loss, LINEAR["perceptron"][0], points(), labels()))
    assert found is not None
    assert found.where == "1 (linear)"
    assert "3 of 3 layers" in found.message


def test_an_output_that_is_used_twice_is_deliberate() -> None:
    def regularized(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(net, nn.Sequential)
        codes = net[0](x)
        penalty: Tensor = codes.square().mean()
        return F.cross_entropy(net[1](codes), y) + penalty

    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    assert RULE.check(taped(regularized, net, points(), labels())) is None
