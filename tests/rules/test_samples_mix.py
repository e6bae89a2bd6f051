from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import EXPERIMENT_BATCH_MIXING
from lightning_plateau.rules.samples_mix import SamplesMix
from lightning_plateau.testing import history
from tests.rules.taped import labels, taped

RULE = SamplesMix()


class Network(nn.Module):
    """Sequences of 6 rows with 4 numbers each; ``forward`` is what a test puts in."""

    def __init__(self, way: Callable[[Network, Tensor], Tensor], *, first: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=first)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=first)
        self.head, self.short = nn.Linear(8, 3), nn.Linear(4, 3)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def run(way: Callable[[Network, Tensor], Tensor], *, first: bool = True) -> History:
    x = torch.randn(16, 6, 4, generator=torch.Generator().manual_seed(0))
    net = Network(way, first=first)
    seen = taped(lambda net, x, y: cross_entropy(net(x), y), net, x, labels())
    return replace(seen, profile=replace(seen.profile, shuffled=True))


def recurrent(net: Network, x: Tensor) -> Tensor:
    return net.head(net.lstm(x)[0][:, -1])


def attentive(net: Network, x: Tensor) -> Tensor:
    return net.short(net.attention(x, x, x)[0].mean(dim=1))


def viewed(net: Network, x: Tensor) -> Tensor:
    return net.head(net.lstm(x.view(6, 16, 4))[0][-1])


def transposed(net: Network, x: Tensor) -> Tensor:
    return net.head(net.lstm(x.transpose(0, 1))[0][-1])


def softmaxed(dim: int | None) -> Callable[[Network, Tensor], Tensor]:
    return lambda net, x: net.short(x.mean(dim=1)).softmax(dim)


def pooled(net: Network, x: Tensor) -> Tensor:
    return net.short((x * x.sum(dim=-1, keepdim=True).softmax(dim=1)).sum(dim=1))


def unnamed(net: Network, x: Tensor) -> Tensor:
    return net.short(torch.nn.functional.softmax(x).sum(dim=1))


@pytest.mark.filterwarnings("ignore:Implicit dimension")
@pytest.mark.parametrize(
    ("sick", "message"),
    [
        (run(softmaxed(0)), "softmax runs over the 16 samples of the batch (dim 0 of 16×3)"),
        (run(softmaxed(-2)), "softmax runs over the 16 samples of the batch (dim 0 of 16×3)"),
        (run(unnamed), "softmax runs over the 16 samples of the batch (dim 0 of 16×6×4)"),
        (run(viewed, first=False), "view from 16×6×4 to 6×16×4 mixes the 16 samples"),
        (run(recurrent, first=False), "lstm runs over the 16 samples of the batch"),
        (run(attentive, first=False), "attention_forward runs over the 16 samples of the batch"),
    ],
    ids=["softmax", "from the back", "without a dim", "view", "batch_first", "attention"],
)
def test_certain(sick: History, message: str) -> None:
    found = RULE.check(sick)
    assert found is not None
    assert found.certain
    assert message in found.message


def beside_each_other(net: Network, x: Tensor) -> Tensor:
    rows = x.mean(dim=1)[:, None]
    return net.short(net.attention(rows, rows, rows)[0][:, 0])


def test_attention_between_samples_may_be_meant_where_they_have_no_time() -> None:
    ordered = run(attentive, first=False)
    ordered = replace(ordered, profile=replace(ordered.profile, shuffled=False))
    for maybe in (run(beside_each_other, first=False), ordered):
        found = RULE.check(maybe)
        assert found is not None
        assert found.certainty == "likely"


def test_rows_in_order_may_be_meant_as_one_sequence() -> None:
    sick = run(recurrent, first=False)
    ordered = replace(sick, profile=replace(sick.profile, shuffled=False))
    found = RULE.check(ordered)
    assert found is not None
    assert not found.certain


@pytest.mark.parametrize(
    "healthy",
    [
        run(softmaxed(1)),
        run(softmaxed(-1)),
        run(recurrent),
        run(attentive),
        run(transposed, first=False),
        run(pooled),
        run(lambda net, x: net.short(x.reshape(-1, 4)).view(16, 6, 3).mean(dim=1)),
        run(lambda net, x: net.short(x.view(4, 4, 6, 4)).view(16, 6, 3).mean(dim=1)),
        History(),
    ],
    ids=[
        "softmax over classes",
        "from the back",
        "recurrence over time",
        "attention over time",
        "a transpose",
        "pooling over time",
        "rows one by one",
        "groups of samples",
        "empty",
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


@pytest.mark.parametrize(("halved", "found"), [(0.4, True), (1e-6, False), (float("nan"), False)])
def test_the_experiment_tells_where_no_operation_does(halved: float, found: bool) -> None:
    tried = history({EXPERIMENT_BATCH_MIXING: {"halved": [halved], "repeated": [0.0]}})
    assert (RULE.check(tried) is not None) is found
