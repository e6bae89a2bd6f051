from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.finding import Severity
from lightning_plateau.diagnosis import diagnose
from lightning_plateau.rules.redundant_bias_before_norm import RedundantBiasBeforeNorm
from tests.rules.taped import labels, points, taped

RULE = RedundantBiasBeforeNorm()


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def images(samples: int = 16) -> Tensor:
    return torch.randn(samples, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def head(inputs: int) -> list[nn.Module]:
    return [nn.ReLU(), nn.Flatten(), nn.Linear(inputs, 3)]


class Sequence(nn.Module):
    """Linear over the last dimension, norm over the channels that are moved to the second."""

    def __init__(self, *, move: bool) -> None:
        super().__init__()
        units = 8 if move else 4
        self.fc, self.bn = nn.Linear(1, units), nn.BatchNorm1d(units)
        self.head = nn.Linear(4 * units, 3)
        self.move = move

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x[..., None])
        out: Tensor = self.head(self.bn(x.transpose(1, 2) if self.move else x).flatten(1))
        return out


class Reused(nn.Module):
    """The layer's output goes around the norm too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn, self.head = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        out: Tensor = self.head(x + self.bn(x))
        return out


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(F.relu(F.batch_norm(self.fc(x), None, None, training=True)))
        return out


REDUNDANT: dict[str, tuple[nn.Module, Tensor, str]] = {
    "linear": (
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), *head(8)), points(), "0.bias",
    ),
    "convolution": (
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), *head(64)), images(), "0.bias",
    ),
    "moved channels": (Sequence(move=True), points(), "fc.bias"),
    "functional": (Functional(), points(), "fc.bias"),
}  # fmt: skip
NEEDED: dict[str, tuple[nn.Module, Tensor]] = {
    "no bias": (nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), *head(8)), points()),
    "norm after the activation": (
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.BatchNorm1d(8), *head(8)),
        points(),
    ),
    "running statistics": (
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8).eval(), *head(8)),
        points(),
    ),
    "layer norm": (nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), *head(8)), points()),
    "another dimension": (Sequence(move=False), points()),
    "a bias for each pixel": (
        nn.Sequential(nn.Linear(4, 32), nn.Unflatten(1, (8, 2, 2)), nn.BatchNorm2d(8), *head(32)),
        points(),
    ),
    "used twice": (Reused(), points()),
}


@pytest.mark.parametrize("kind", REDUNDANT)
def test_redundant(kind: str) -> None:
    net, x, bias = REDUNDANT[kind]
    found = RULE.check(taped(loss, net, x, labels()))
    assert found is not None
    assert found.certain
    assert found.where == bias


@pytest.mark.parametrize("kind", NEEDED)
def test_silent(kind: str) -> None:
    net, x = NEEDED[kind]
    assert RULE.check(taped(loss, net, x, labels())) is None


def test_a_remark_on_a_run_that_is_well() -> None:
    [found] = diagnose(taped(loss, *REDUNDANT["linear"][:2], labels()), [RULE])
    assert found.severity is Severity.INFO
    assert "1 bias in vain" in found.message
