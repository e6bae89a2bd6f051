from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.rules.regression_loss_for_classes import RegressionLossForClasses
from tests.rules.taped import Loss, labels, points, taped

RULE = RegressionLossForClasses()


def by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    value: Tensor = ((net(x)[:, 0] - y) ** 2).mean()
    return value


def one_hot(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x), F.one_hot(y, 3).float())


def squares(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(net(x)[:, 0], y.float())


FAULTS: dict[str, tuple[Loss, Tensor]] = {
    "squared error": (squares, labels()),
    "absolute error of a column": (
        lambda net, x, y: F.l1_loss(net(x)[:, :1], y.float()),
        labels()[:, None],
    ),
    "by hand": (by_hand, labels()),
    "one-hot": (one_hot, labels()),
    "of two classes": (squares, labels(classes=2)),
}
HEALTHY: dict[str, tuple[Loss, Tensor]] = {
    "cross-entropy": (lambda net, x, y: F.cross_entropy(net(x), y), labels()),
    "real targets": (squares, torch.linspace(0, 9, 16)),
    "whole numbers given as floats": (squares, labels().float()),
    "large counts": (squares, torch.arange(16) * 1000),
    "signed": (squares, labels() - 1),
    "several columns of real targets": (
        lambda net, x, y: F.mse_loss(net(x), y),
        torch.rand(16, 3),
    ),
    "all of one value": (squares, torch.zeros(16, dtype=torch.int64)),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_labels_in_a_regression_loss_are_possible(kind: str) -> None:
    loss, y = FAULTS[kind]
    found = RULE.check(taped(loss, nn.Linear(4, 3), points(), y))
    assert found is not None
    assert found.certainty == "possible"


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    loss, y = HEALTHY[kind]
    assert RULE.check(taped(loss, nn.Linear(4, 3), points(), y)) is None


def test_likely_where_the_user_says_so() -> None:
    run = taped(squares, nn.Linear(4, 3), points(), labels())
    found = RULE.check(replace(run, profile=replace(run.profile, task="classification")))
    assert found is not None
    assert found.certainty == "likely"


def test_an_image_of_bytes_is_no_label() -> None:
    def rebuilt(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(net(x), y.float())

    image = torch.randint(0, 90, (16, 3), dtype=torch.uint8)
    assert RULE.check(taped(rebuilt, nn.Linear(4, 3), points(), image)) is None
