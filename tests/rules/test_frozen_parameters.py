from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import EXPERIMENT_OVERFIT, GRADIENT_NORMS
from lightning_plateau.rules.frozen_parameters import FrozenParameters
from lightning_plateau.testing import history
from tests.rules.taped import labels, points, taped

RULE = FrozenParameters()


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    assert isinstance(net, nn.ModuleDict)
    return F.cross_entropy(net["head"](torch.relu(net["body"](x))), y)


def network(width: int = 64) -> nn.ModuleDict:
    return nn.ModuleDict({"body": nn.Linear(4, width), "head": nn.Linear(width, 3)})


def run(*frozen: str, width: int = 64, spare: bool = False) -> History:
    net = network(width)
    if spare:
        net["spare"] = nn.Linear(200, 200).requires_grad_(False)
    for name in frozen:
        net[name].requires_grad_(False)
    return taped(loss, net, points(), labels())


def test_nothing_left_is_certain() -> None:
    found = RULE.check(run("body", "head"))
    assert found is not None
    assert found.certain
    assert "100 %" in found.message


@pytest.mark.parametrize("width", [16, 256])
def test_a_frozen_body_is_possible(width: int) -> None:
    found = RULE.check(run("body", width=width))
    assert found is not None
    assert found.certainty == "possible"
    assert found.where == "body.weight"


def test_what_is_left_cannot_learn_a_batch() -> None:
    frozen = run("body")
    for after, certainty in ((2.2, "likely"), (0.1, "possible")):
        tried = {EXPERIMENT_OVERFIT: {"before": [2.3], "own": [after], "adam": [after]}}
        found = RULE.check(history(tried, profile=frozen.profile, tapes=frozen.tapes))
        assert found is not None
        assert found.certainty == certainty


def test_nothing_frozen() -> None:
    assert RULE.check(run()) is None


def test_the_smaller_part_frozen() -> None:
    assert RULE.check(run("head")) is None


def test_what_forward_does_not_use_does_not_count() -> None:
    assert RULE.check(run(spare=True)) is None


def test_unfrozen_during_training() -> None:
    made = run("body")
    gradients = {name: [1.0] for name in ("body.weight", "body.bias", "head.weight", "head.bias")}
    later = history({GRADIENT_NORMS: gradients}, profile=made.profile, tapes=made.tapes)
    assert RULE.check(later) is None
