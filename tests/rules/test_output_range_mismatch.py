from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.rules.output_range_mismatch import OutputRangeMismatch
from tests.rules.taped import Loss, points, taped

RULE = OutputRangeMismatch()


def mean_squares(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x), y)


def by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    value: Tensor = ((y - net(x)) ** 2).mean()
    return value


def ending_in(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), activation)


def targets(mean: float, deviation: float) -> Tensor:
    """Return targets of that mean, spread evenly over ±√3 standard deviations."""
    return mean + deviation * 3**0.5 * torch.linspace(-1, 1, 16)[:, None]


FAULTS: dict[str, tuple[Loss, nn.Module, Tensor]] = {
    "sigmoid, raw": (mean_squares, ending_in(nn.Sigmoid()), targets(150, 70)),
    "sigmoid, standardized": (mean_squares, ending_in(nn.Sigmoid()), targets(0, 1)),
    "tanh, by hand": (by_hand, ending_in(nn.Tanh()), targets(15, 7)),
    "softmax": (
        lambda net, x, y: F.l1_loss(net(x).softmax(1), y.expand(-1, 3)),
        nn.Linear(4, 3),
        targets(4, 1),
    ),
    "hardtanh, its own bounds": (by_hand, ending_in(nn.Hardtanh(-2, 2)), targets(5, 1)),
    "all the same": (mean_squares, ending_in(nn.Sigmoid()), targets(2, 0)),
    "elu": (mean_squares, ending_in(nn.ELU()), targets(-10, 3)),
}
HEALTHY: dict[str, tuple[Loss, nn.Module, Tensor]] = {
    "linear": (mean_squares, ending_in(nn.Identity()), targets(150, 70)),
    "sigmoid in range": (mean_squares, ending_in(nn.Sigmoid()), targets(0.5, 0.25)),
    "tanh in range": (by_hand, ending_in(nn.Tanh()), targets(0, 0.5)),
    "sigmoid, scaled after": (
        lambda net, x, y: F.mse_loss(300 * net(x), y),
        ending_in(nn.Sigmoid()),
        targets(150, 70),
    ),
    "softplus, positive": (mean_squares, ending_in(nn.Softplus()), targets(150, 70)),
    "a rounding beyond the bound": (mean_squares, ending_in(nn.Tanh()), targets(0, 0.5775)),
    "tanh inside": (
        mean_squares,
        nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)),
        targets(150, 70),
    ),
    "not finite": (mean_squares, ending_in(nn.Sigmoid()), targets(float("nan"), 1)),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_out_of_reach(kind: str) -> None:
    loss, net, y = FAULTS[kind]
    found = RULE.check(taped(loss, net, points(), y))
    assert found is not None
    assert found.certain or kind == "sigmoid, standardized"
    assert "LP401" in found.explains


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    loss, net, y = HEALTHY[kind]
    assert RULE.check(taped(loss, net, points(), y)) is None


def test_a_little_out_of_reach_is_likely() -> None:
    found = RULE.check(taped(mean_squares, ending_in(nn.Sigmoid()), points(), targets(0.5, 0.5)))
    assert found is not None
    assert not found.certain
    assert found.where == "3 (sigmoid)"


def test_other_losses_are_not_its_affair() -> None:
    def binary(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.soft_margin_loss(net(x), y)

    assert RULE.check(taped(binary, ending_in(nn.Sigmoid()), points(), targets(0, 1))) is None
