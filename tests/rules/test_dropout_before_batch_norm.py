from __future__ import annotations

from dataclasses import replace

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.rules.dropout_before_batch_norm import DropoutBeforeBatchNorm
from tests.rules.normalized import run
from tests.rules.taped import labels, points, taped

RULE = DropoutBeforeBatchNorm()
BAD = (2.6, 2.5, 2.7)


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def block(*between: nn.Module, rate: float = 0.5) -> nn.Sequential:
    """Return a network with dropout, then ``between``, then batch norm."""
    body = [nn.Linear(4, 8), nn.ReLU(), nn.Dropout(rate), *between]
    return nn.Sequential(*body, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


def seen(net: nn.Module, validation: tuple[float, ...] = (0.5, 0.4, 0.4)) -> History:
    tape = taped(loss, net, points(), labels()).tapes
    return replace(run(validation=validation), tapes=tape)


def test_where_validation_suffers_it_is_a_fault() -> None:
    found = RULE.check(seen(block(nn.Linear(8, 8)), BAD))
    assert found is not None
    assert found.severity is Severity.WARNING
    assert found.explains == ("LP602",)


def test_directly_before_it_is_a_remark() -> None:
    found = RULE.check(seen(block()))
    assert found is not None
    assert found.severity is Severity.INFO


@pytest.mark.parametrize(
    "well",
    [
        seen(block(nn.Linear(8, 8))),
        seen(block(rate=0.05)),
        seen(block().eval()),
        seen(block(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), BAD),
        seen(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)), BAD),
        History(),
    ],
    ids=["blocks that do well", "little", "off", "two layers between", "after it", "empty"],
)
def test_silent(well: History) -> None:
    assert RULE.check(well) is None
