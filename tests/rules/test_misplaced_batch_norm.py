from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.rules.misplaced_batch_norm import MisplacedBatchNorm
from tests.rules.normalized import run
from tests.rules.taped import labels, points, taped

RULE = MisplacedBatchNorm()


def classes(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def numbers(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x).squeeze(1), y.float())


def by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ((net(x).squeeze(1) - y.float()) ** 2).mean()


def redundancy(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Two views whose outputs should agree, without targets."""
    one, other = net(x), net(x + 0.1)
    correlation = one.T @ other / len(x)
    return (correlation - torch.eye(correlation.shape[0])).square().sum()


class Shared(nn.Module):
    def __init__(self, *, twice_the_layer: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.bn, self.head = nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.again = self.first if twice_the_layer else self.second

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.first(x)))
        out: Tensor = self.head(torch.relu(self.bn(self.again(x))))
        return out


def net(*tail: nn.Module, out: int = 3) -> nn.Sequential:
    body = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, out)]
    return nn.Sequential(*body, *tail)


@pytest.mark.parametrize(
    ("loss", "sick", "word", "certainty"),
    [
        (numbers, net(nn.BatchNorm1d(1), out=1), "the output", "likely"),
        (by_hand, net(nn.BatchNorm1d(1), out=1), "the output", "likely"),
        (numbers, net(nn.BatchNorm1d(1), nn.Sigmoid(), out=1), "the output", "likely"),
        (classes, net(nn.BatchNorm1d(3)), "the output", "possible"),
        (classes, Shared(), "in 2 places", "likely"),
    ],
)
def test_misplaced(loss: object, sick: nn.Module, word: str, certainty: str) -> None:
    found = RULE.check(taped(loss, sick, points(), labels()))  # type: ignore[arg-type]
    assert found is not None
    assert word in found.message
    assert found.certainty == certainty


def test_two_places_are_certain_where_validation_suffers() -> None:
    tapes = taped(classes, Shared(), points(), labels(classes=3)).tapes
    curves = {"training": [1.1] * 30 + [0.2] * 90, "validation": (1.4, 1.3, 1.5)}
    found = RULE.check(replace(run(**curves), tapes=tapes))  # type: ignore[arg-type]
    assert found is not None
    assert found.certain
    assert "LP602" in found.explains


def test_a_second_norm_in_a_row_is_a_remark() -> None:
    twice = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )
    found = RULE.check(taped(classes, twice, points(), labels()))
    assert found is not None
    assert found.severity is Severity.INFO
    assert not found.explains


@pytest.mark.parametrize(
    ("loss", "well"),
    [
        (classes, net()),
        (numbers, net(out=1)),
        (redundancy, net(nn.BatchNorm1d(3, affine=False))),
        (classes, Shared(twice_the_layer=True)),
        (numbers, net(nn.BatchNorm1d(1).eval(), out=1)),
    ],
    ids=["classes", "numbers", "no targets", "unrolled", "frozen"],
)
def test_silent(loss: object, well: nn.Module) -> None:
    assert RULE.check(taped(loss, well, points(), labels())) is None  # type: ignore[arg-type]


def test_silent_on_nothing() -> None:
    assert RULE.check(History()) is None
