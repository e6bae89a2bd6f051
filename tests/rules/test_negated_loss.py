from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS
from lightning_plateau.core.tape import Tape
from lightning_plateau.rules.negated_loss import NegatedLoss
from lightning_plateau.testing import history
from tests.rules.taped import Loss, taped

RULE = NegatedLoss()
X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 3


def run(loss: Loss, level: float = -2.0, optimizers: int = 1) -> History:
    seen = taped(loss, nn.Linear(4, 3), X, Y)
    made = history(loss=[level, 1.1 * level])
    profile = replace(seen.profile, optimizers=(OptimizerFact("SGD"),) * optimizers)
    return replace(seen, series={LOSS.tag: made[LOSS]}, profile=profile)


def chosen(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.log_softmax(net(x), 1).gather(1, y[:, None])


@pytest.mark.parametrize(
    "loss",
    [
        lambda net, x, y: -F.cross_entropy(net(x), y),
        lambda net, x, y: -0.5 * F.cross_entropy(net(x), y),
        lambda net, x, y: (F.cross_entropy(net(x), y) * -1).mean(),
        lambda net, x, y: 0 - F.mse_loss(net(x)[:, 0], y.float()),
        lambda net, x, y: chosen(net, x, y).mean(),
        lambda net, x, y: (F.log_softmax(net(x), 1) * F.one_hot(y, 3)).sum(1).mean(),
    ],
    ids=["minus", "times -0.5", "times -1", "zero minus", "log-likelihood", "one-hot"],
)
def test_wrong_sign(loss: Loss) -> None:
    found = RULE.check(run(loss))
    assert found is not None
    assert found.certainty == "likely"


@pytest.mark.parametrize(
    "other",
    [
        run(lambda net, x, y: F.cross_entropy(net(x), y), 2.0),
        run(lambda net, x, y: -chosen(net, x, y).mean(), 2.0),
        run(lambda net, x, y: F.cross_entropy(net(x), y) - F.mse_loss(net(x)[:, 0], y.float())),
        run(lambda net, x, y: -F.cross_entropy(net(x), y), optimizers=2),
        run(lambda net, x, y: -F.cosine_similarity(net(x), x[:, :3]).mean()),
        run(lambda net, x, y: 1 - F.cross_entropy(net(x), y).exp(), 0.5),
        History(),
    ],
    ids=[
        "cross entropy", "likelihood", "one against another", "two players", "similarity",
        "above zero", "empty",
    ],
)  # fmt: skip
def test_silent(other: History) -> None:
    assert RULE.check(other) is None


MASK = (X > 0.3).float()


def dice(p: Tensor, y: Tensor) -> Tensor:
    return (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def jaccard(p: Tensor, y: Tensor) -> Tensor:
    both = torch.sum(p * y)
    return both / (p.sum() + y.sum() - both)


def angle(p: Tensor, y: Tensor) -> Tensor:
    return F.cosine_similarity(p.logit(), y, dim=1).mean()


def trained(loss: Loss, rate: float) -> History:
    """Descend by hand and return what the first and the last tape show."""
    net = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    tapes, losses = [], []
    for step in range(60):
        tape: Tape = taped(loss, net, X, MASK).tapes[0]
        tapes.append(replace(tape, step=step))
        value = loss(net, X, MASK)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return replace(history(loss=losses), tapes=(tapes[0], tapes[-1]))


@pytest.mark.parametrize("score", [dice, jaccard, angle])
def test_a_score_that_is_made_small(score) -> None:
    torch.manual_seed(0)
    found = RULE.check(trained(lambda net, x, y: score(net(x).sigmoid(), y), 5.0))
    assert found is not None
    assert "1 - overlap" in found.fix


@pytest.mark.parametrize(
    "loss",
    [
        lambda net, x, y: 1 - dice(net(x).sigmoid(), y),
        lambda net, x, y: -jaccard(net(x).sigmoid(), y),
        lambda net, x, y: -torch.log(dice(net(x).sigmoid(), y)),
        lambda net, x, y: (net(x).sigmoid() * (1 - y)).mean() - (net(x).sigmoid() * y).mean(),
        lambda net, x, y: (net(x).sigmoid() * x.abs().clamp(max=1)).mean(),
        lambda net, x, y: dice(net(x).sigmoid(), y) * 0 + F.mse_loss(net(x), y),
    ],
    ids=["dice", "jaccard", "log", "background", "inputs", "beside a loss"],
)
def test_likeness_that_is_sought_or_only_a_part_is_not_told(loss: Loss) -> None:
    torch.manual_seed(0)
    assert RULE.check(trained(loss, 1.0)) is None


@pytest.mark.parametrize(
    ("loss", "level", "found"),
    [
        (lambda net, x, y: (net(x) - x[:, :3]).mean(), -2.0, True),
        (lambda net, x, y: (x[:, :3] - net(x)).sum(1).mean() / 2, -2.0, True),
        (lambda net, x, y: (net(x) - x[:, :3]).mean(), 2.0, False),
        (lambda net, x, y: (net(x) - x[:, :3]).abs().mean(), -2.0, False),
        (lambda net, x, y: ((net(x) - x[:, :3]) ** 2).mean() - 9, -2.0, False),
        (lambda net, x, y: ((net(x) - x[:, :3]) * x[:, 1:]).mean(), -2.0, False),
        (lambda net, x, y: net(x).mean() - net(x + 1).mean(), -2.0, False),
    ],
    ids=["errors", "turned", "above", "absolute", "squared", "weighted by data", "a critic"],
)
def test_errors_that_are_neither_squared_nor_absolute(
    loss: Loss, level: float, *, found: bool
) -> None:
    told = RULE.check(run(loss, level))
    assert (told is not None) is found
    assert told is None or "mse_loss" in told.fix


@pytest.mark.parametrize(
    ("ends", "steep", "found"), [(-1e6, 1e5, True), (-1e6, 1.0, False), (-9.0, 1e5, False)]
)
def test_a_loss_without_a_lower_bound(ends: float, steep: float, *, found: bool) -> None:
    seen = run(lambda net, x, y: F.mse_loss(net(x), x[:, :3]))
    loss = [20.0] * 5 + list(np.geomspace(1.0, -ends, 30) * -1)
    norms = [2.0] * 5 + list(np.geomspace(2.0, 2.0 * steep, 30))
    fallen = history({GRADIENT_NORM: norms}, loss=loss)
    told = RULE.check(replace(seen, series=fallen.series))
    assert (told is not None) is found
    assert told is None or "no lower bound" in told.message
