from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.rules.broadcast_in_loss import BroadcastInLoss
from tests.rules.taped import Loss, points, taped

RULE = BroadcastInLoss()
FLAT, COLUMN = points(16, 1, seed=1).squeeze(1), points(16, 1, seed=1)


class Centers(nn.Module):
    """Distances of each point to as many centers as there are samples."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(count, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, None] - self.centers


def held(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(2 * x).squeeze(1)


FAULTS: dict[str, tuple[Loss, Tensor]] = {
    "mse_loss": (lambda net, x, y: F.mse_loss(net(x), y), FLAT),
    "mse_loss, the target wider": (lambda net, x, y: F.mse_loss(net(x).squeeze(), y), COLUMN),
    "module": (lambda net, x, y: nn.L1Loss()(net(x), y), FLAT),
    "smooth_l1": (lambda net, x, y: F.smooth_l1_loss(net(x), y), FLAT),
    "swapped arguments": (lambda net, x, y: F.mse_loss(y, net(x)), FLAT),
    "by hand": (lambda net, x, y: ((net(x) - y) ** 2).mean(), FLAT),
    "by hand, reversed, absolute": (lambda net, x, y: (y - net(x)).abs().mean(), FLAT),
    "by hand, root of the mean": (lambda net, x, y: (net(x) - y).pow(2).mean().sqrt(), FLAT),
    "beside a network that is held": (
        lambda net, x, y: F.smooth_l1_loss(net(x), y + held(net, x)),
        FLAT,
    ),
    "beside a network that is held, by hand": (
        lambda net, x, y: ((y + held(net, x) - net(x)) ** 2).mean(),
        FLAT,
    ),
    "a standardized target": (lambda net, x, y: F.mse_loss(net(x), (y - 1) / 2), FLAT),
}
HEALTHY: dict[str, tuple[Loss, Tensor]] = {
    "same shape": (lambda net, x, y: F.mse_loss(net(x), y), COLUMN),
    "squeezed": (lambda net, x, y: ((net(x).squeeze(1) - y) ** 2).mean(), FLAT),
    "a number for all": (lambda net, x, y: ((net(x) - y.mean()) ** 2).mean(), FLAT),
    "beside a network that is held": (
        lambda net, x, y: F.mse_loss(net(x).squeeze(1), y + held(net, x)),
        FLAT,
    ),
    "all pairs of predictions, one side held": (
        lambda net, x, y: (net(x) - net(x).squeeze(1).detach()).abs().mean(),
        COLUMN,
    ),
    "all pairs of one prediction, one side held": (
        lambda net, x, y: ((out := net(x)) - out.squeeze(1).detach()).abs().mean(),
        COLUMN,
    ),
    "all pairs of predictions": (
        lambda net, x, y: (net(x) - net(x).squeeze(1)).abs().mean() + F.mse_loss(net(x), y),
        COLUMN,
    ),
    "energy distance, by explicit dimensions": (
        lambda net, x, y: (net(x)[:, None] - y[None, :]).abs().mean(),
        COLUMN,
    ),
    "quantiles": (
        lambda net, x, y: (y - net(x).expand(-1, 3)).clamp(min=0).mean(),
        COLUMN,
    ),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("kind", FAULTS)
def test_found_and_certain(kind: str) -> None:
    loss, y = FAULTS[kind]
    found = RULE.check(taped(loss, nn.Linear(4, 1), points(), y))
    assert found is not None
    assert found.certain
    assert "256 pairs of 16 samples" in found.message


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    loss, y = HEALTHY[kind]
    assert RULE.check(taped(loss, nn.Linear(4, 1), points(), y)) is None


@pytest.mark.parametrize("count", [3, 16])
def test_distances_to_centers_are_no_fault(count: int) -> None:
    run = taped(
        lambda n, x, y: n(x).pow(2).sum(-1).min(-1).values.mean(), Centers(count), points(), FLAT
    )
    assert RULE.check(run) is None


def test_one_sample_shows_nothing() -> None:
    assert RULE.check(taped(FAULTS["by hand"][0], nn.Linear(4, 1), points(1), FLAT[:1])) is None
