from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS, Signal
from lightning_plateau.rules.detached_loss import DetachedLoss
from lightning_plateau.testing import history
from lightning_plateau.testing.builders import Values
from tests.rules.taped import Loss, labels, points, taped

RULE = DetachedLoss()


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def stepped(run: History, gradients: list[float], parameter: float) -> History:
    """Return ``run`` with steps whose gradients were ``gradients``."""
    names = [fact.name for fact in run.profile.parameters]
    series: dict[Signal, Values | Mapping[str, Values]] = {
        GRADIENT_NORM: gradients,
        GRADIENT_NORMS: {name: [parameter] * len(gradients) for name in names},
    }
    return history(series, profile=run.profile, tapes=run.tapes)


def without_gradients(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        scores = net(x)
    return F.cross_entropy(scores, y)


RAISING: dict[str, tuple[Loss, str]] = {
    "detach": (lambda net, x, y: F.cross_entropy(net(x).detach(), y), "detach"),
    "argmax": (lambda net, x, y: F.mse_loss(net(x).argmax(1).float(), y.float()), "argmax"),
    "no_grad": (without_gradients, "0 (linear)"),
    "item": (lambda net, x, y: torch.tensor(F.cross_entropy(net(x), y).item()), ""),
    "comparison": (lambda net, x, y: 1 - (net(x)[:, 0] > 0).float().mean(), "gt"),
}


def set_by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    loss = F.cross_entropy(net(x).detach(), y)
    loss.requires_grad = True
    return loss


RUNNING: dict[str, Loss] = {
    "item, made anew": lambda net, x, y: torch.tensor(
        F.cross_entropy(net(x), y).item(), requires_grad=True
    ),
    "requires_grad_": lambda net, x, y: F.cross_entropy(net(x).detach(), y).requires_grad_(),
    "requires_grad = True": set_by_hand,
    "through numpy": lambda net, x, y: F.cross_entropy(
        torch.from_numpy(net(x).detach().numpy()).requires_grad_(), y
    ),
    "argmax": lambda net, x, y: F.mse_loss(net(x).argmax(1).float(), y.float()).requires_grad_(),
    "output, made anew": lambda net, x, y: F.cross_entropy(
        torch.tensor(net(x), requires_grad=True), y
    ),
}


@pytest.mark.parametrize("kind", RAISING)
def test_backward_that_raises(kind: str) -> None:
    loss, where = RAISING[kind]
    found = RULE.check(taped(loss, network(), points(), labels()))
    assert found is not None
    assert found.certain
    assert found.where == where


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize("kind", RUNNING)
def test_backward_that_runs_for_nothing(kind: str) -> None:
    run = taped(RUNNING[kind], network(), points(), labels())
    assert RULE.check(run) is None, "before the first step the gradients are not known"
    found = RULE.check(stepped(run, [0.0], float("nan")))
    assert found is not None
    assert found.certain or kind == "through numpy"


class Doubled(torch.autograd.Function):
    """What the tape does not see."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return 2 * gradients[0]


HEALTHY: dict[str, Loss] = {
    "plain": lambda net, x, y: F.cross_entropy(net(x), y),
    "detached teacher": lambda net, x, y: F.mse_loss(net(x), net(x).detach() + 1),
    "argmax for a metric": lambda net, x, y: (
        F.cross_entropy(net(x), y) + 0 * (net(x).argmax(1) == y).float().mean()
    ),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    run = taped(HEALTHY[kind], network(), points(), labels())
    assert RULE.check(run) is None
    assert RULE.check(stepped(run, [1.0], 0.5)) is None
    assert RULE.check(stepped(run, [0.0], float("nan"))) is None


def test_what_the_tape_cannot_see() -> None:
    def hidden(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        scores: Tensor = Doubled.apply(net(x))  # type: ignore[no-untyped-call]
        return F.cross_entropy(scores, y)

    run = taped(hidden, network(), points(), labels())
    assert RULE.check(stepped(run, [1.0], 0.5)) is None
    sharded = replace(run, profile=replace(run.profile, strategy="DeepSpeedStrategy"))
    assert RULE.check(stepped(sharded, [0.0], float("nan"))) is None


def test_a_backward_of_ones_own() -> None:
    run = taped(without_gradients, network(), points(), labels())
    assert RULE.check(stepped(run, [1.0], 0.5)) is None


def test_all_frozen_is_not_its_affair() -> None:
    run = taped(HEALTHY["plain"], network().requires_grad_(False), points(), labels())
    assert RULE.check(run) is None


@pytest.mark.parametrize("gradient", [0.0, float("nan"), float("inf")])
def test_gradients_of_zero_or_not_finite_are_gradients(gradient: float) -> None:
    run = taped(RUNNING["requires_grad_"], network(), points(), labels())
    assert RULE.check(stepped(run, [gradient], gradient)) is None
