from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_plateau.core.history import History
from lightning_plateau.rules.too_deep_without_skips import TooDeepWithoutSkips
from tests.rules.taped import labels, points, taped

RULE = TooDeepWithoutSkips()


class Deep(nn.Module):
    def __init__(self, depth: int, way: str = "plain") -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth - 1))
        self.head, self.way = nn.Linear(4, 3), way

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            made = layer(x).relu()
            x = {"plain": made, "added": x + made}[self.way]
        return self.head(x)


class Loop(Deep):
    """One layer again and again, as a recurrent cell."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(50):
            x = torch.tanh(self.layers[0](x))
        return self.head(x)


def run(net: nn.Module) -> History:
    return taped(lambda net, x, y: cross_entropy(net(x), y), net, points(), labels())


@pytest.mark.parametrize(("depth", "certainty"), [(20, "possible"), (30, "likely")])
def test_found(depth: int, certainty: str) -> None:
    found = RULE.check(run(Deep(depth)))
    assert found is not None
    assert found.certainty == certainty
    assert found.message.startswith(f"{depth} layers lie one behind the other")


@pytest.mark.parametrize(
    "other",
    [run(Deep(19)), run(Deep(60, "added")), run(Loop(2)), History()],
    ids=["shallower", "with skips", "a loop over one layer", "empty"],
)
def test_silent(other: History) -> None:
    assert RULE.check(other) is None
