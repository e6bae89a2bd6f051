from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_plateau.core.penalty import penalty
from tests.rules.taped import Loss, labels, points, taped

Norm = Callable[[nn.Module], Tensor]


def by_generator(net: nn.Module) -> Tensor:
    return sum(p.pow(2).sum() for p in net.parameters())  # type: ignore[return-value]


def by_loop(net: nn.Module) -> Tensor:
    total = torch.tensor(0.0)
    for parameter in net.parameters():
        total += torch.norm(parameter, 2) ** 2
    return total


def flattened(net: nn.Module) -> Tensor:
    return torch.cat([p.view(-1) for p in net.parameters()]).square().sum()


@pytest.mark.parametrize("norm", [by_generator, by_loop, flattened])
@pytest.mark.parametrize("divided", [1.0, 4.0])
def test_is_told_from_the_loss_of_the_data(norm: Norm, divided: float) -> None:
    net = nn.Linear(4, 3)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (cross_entropy(net(x), y) + 0.3 * norm(net)) / divided

    tape = taped(loss, net, points(), labels()).last_tape
    assert tape is not None
    found = penalty(tape)
    assert found is not None
    assert found.size == pytest.approx(0.3 * by_generator(net).item() / divided, rel=1e-4)
    assert found.rest == pytest.approx(
        cross_entropy(net(points()), labels()).item() / divided, rel=1e-4
    )
    assert [tape.operations[index].name for index in found.beside] == ["cross_entropy"]


LOSSES: dict[str, Loss] = {
    "plain": lambda net, x, y: cross_entropy(net(x), y),
    "an activity is no penalty": lambda net, x, y: (
        cross_entropy(net(x), y) + net(x).square().mean()
    ),
    "a product is no sum": lambda net, x, y: cross_entropy(net(x), y) * by_generator(net),
}


@pytest.mark.parametrize("name", LOSSES)
def test_none(name: str) -> None:
    tape = taped(LOSSES[name], nn.Linear(4, 3), points(), labels()).last_tape
    assert tape is not None
    assert penalty(tape) is None


def test_a_sum_that_doubles_itself_is_read_in_a_moment() -> None:
    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        total = by_generator(net)
        for _ in range(100):
            total = (total + total) / 2
        return cross_entropy(net(x), y) + total

    net = nn.Linear(4, 3)
    tape = taped(loss, net, points(), labels()).last_tape
    assert tape is not None
    found = penalty(tape)
    assert found is not None
    assert found.size == pytest.approx(by_generator(net).item(), rel=1e-4)


def test_what_the_network_says_of_points_of_the_programs_own_is_no_penalty() -> None:
    def boundary(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(net(x), y) + 10 * (net(torch.zeros(1, 4)) - 1).square().sum()

    tape = taped(boundary, nn.Linear(4, 3), points(), labels()).last_tape
    assert tape is not None
    assert penalty(tape) is None
