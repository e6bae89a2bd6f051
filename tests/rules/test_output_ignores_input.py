from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.signal import EXPERIMENT_ZERO_INPUTS
from lightning_plateau.rules.output_ignores_input import OutputIgnoresInput
from lightning_plateau.testing import history
from tests.rules.taped import Loss, labels, points, taped

RULE = OutputIgnoresInput()


def run(loss: Loss, y: Tensor | None = None, out: int = 3) -> History:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, out))
    return taped(loss, net, points(), labels() if y is None else y)


@pytest.mark.parametrize(
    "blind",
    [
        lambda net, x, y: cross_entropy(net(torch.randn(16, 4)), y),
        lambda net, x, y: cross_entropy(net(torch.zeros_like(x)), y),
        lambda net, x, y: cross_entropy(net(x.new_ones(16, 4)), y),
        lambda net, x, y: cross_entropy(net(torch.arange(4.0).expand_as(x)), y),
    ],
    ids=["noise", "zeros", "ones", "positions"],
)
def test_certain_where_no_data_had_a_part(blind: Loss) -> None:
    found = RULE.check(run(blind))
    assert found is not None
    assert found.certain
    assert found.message == "the prediction of 2 (linear) was made from 0 tensors of the batch"


def test_answers_that_are_all_the_same() -> None:
    found = RULE.check(run(lambda net, x, y: mse_loss(net(1e-9 * x), y), points(features=1), 1))
    assert found is not None
    assert found.certainty == "likely"


@pytest.mark.parametrize(
    "healthy",
    [
        run(lambda net, x, y: cross_entropy(net(x), y)),
        run(lambda net, x, y: cross_entropy(net(x + torch.randn_like(x)), y)),
        run(lambda net, x, y: cross_entropy(net(torch.tensor(x.tolist())), y)),
        run(lambda net, x, y: mse_loss(net(x), y), points(features=1), 1),
        run(lambda net, x, y: mse_loss(net(torch.randn(16, 4)), torch.ones(16, 3))),
        History(),
    ],
    ids=["plain", "noise added", "by way of a list", "regression", "a generator", "empty"],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


@pytest.mark.parametrize(("zeroed", "found"), [(2.3, True), (2.5, False), (float("nan"), False)])
def test_the_experiment_tells(zeroed: float, found: bool) -> None:
    tried = {EXPERIMENT_ZERO_INPUTS: {"real": [2.3], "zeroed": [zeroed], "swapped": [2.3]}}
    assert (RULE.check(history(tried)) is not None) is found


@pytest.mark.parametrize(("dtype", "found"), [("float32", True), ("bfloat16", False)])
def test_losses_of_half_precision_are_too_coarse_to_tell(dtype: str, found: bool) -> None:
    tried = {EXPERIMENT_ZERO_INPUTS: {"real": [2.3], "zeroed": [2.3], "swapped": [2.3]}}
    profile = Profile(parameters=(ParameterFact("fc.weight", "fc", (3, 4), dtype),))
    assert (RULE.check(history(tried, profile=profile)) is not None) is found


def test_the_same_image_for_every_sample() -> None:
    y = points(features=3) + 10.0 * torch.arange(3.0)
    found = RULE.check(run(lambda net, x, y: mse_loss(net(0.0 * x) + torch.arange(3.0), y), y))
    assert found is not None
    assert found.certainty == "likely"
    assert RULE.check(run(lambda net, x, y: mse_loss(net(x) + torch.arange(3.0), y), y)) is None
