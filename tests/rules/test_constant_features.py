from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.recording.recorder import Recorder
from lightning_plateau.rules.constant_features import ConstantFeatures
from tests.rules.taped import labels, points

RULE = ConstantFeatures()

ONE = points(1)


def run(batches: list[Any], forward: Any = None, loss: Any = F.cross_entropy) -> History:
    """Return the history of a few steps on ``batches``."""
    net = nn.Linear(4, 3)
    recorder = Recorder(net, [list(net.parameters())], every_n_steps=2)
    for batch in batches:
        recorder.begin_batch(batch)
        value = loss(net(batch[0]) if forward is None else forward(net, batch), batch[1])
        recorder.observe_loss(value)
        value.backward()
        recorder.observe_gradients(0)
        if recorder.end_batch() and recorder.due:
            recorder.drain(wait=True)
    recorder.drain(wait=True)
    return recorder.history()


def each(x: Any, steps: int = 6) -> list[tuple[Tensor, Tensor]]:
    return [(x(step), labels()) for step in range(steps)]


VARIED = each(lambda step: points(seed=step))
BATCHES_OF_ONE = [(torch.zeros(1, 4), torch.tensor([step % 3])) for step in range(6)]


@pytest.mark.parametrize(
    ("sick", "where"),
    [
        pytest.param(run(each(lambda _: torch.zeros(16, 4))), "batch[0]", id="zeros"),
        pytest.param(run(each(lambda _: ONE.expand(16, 4))), "batch[0]", id="the same sample"),
        pytest.param(run(BATCHES_OF_ONE), "batch[0]", id="zeros, one by one"),
        pytest.param(run(VARIED, lambda net, b: net(b[0] * 0)), "mul", id="times zero"),
        pytest.param(run(VARIED, lambda net, b: net(torch.floor(b[0] / 255).abs() * 0)), "mul"),
    ],
)
def test_found(sick: History, where: str) -> None:
    finding = RULE.check(sick)
    assert finding is not None
    assert finding.where == where
    assert not finding.certain


def bordered(step: int) -> Tensor:
    return torch.cat([torch.zeros(16, 3), points(16, 1, step)], dim=1)


def with_noise(net: nn.Module, batch: Any) -> Tensor:
    return net(batch[0] + torch.randn_like(batch[0]))


@pytest.mark.parametrize(
    "healthy",
    [
        pytest.param(run(VARIED), id="varied"),
        pytest.param(run(each(bordered)), id="constant borders"),
        pytest.param(run(each(lambda s: points(1, 4, s).expand(16, 4))), id="one sample a batch"),
        pytest.param(run(each(lambda _: torch.zeros(16, 4)), with_noise), id="drawn in the step"),
        pytest.param(
            run(
                [(torch.zeros(16, 4), labels(), points(seed=s)) for s in range(6)],
                lambda net, b: net(b[0] + b[2]),
            ),
            id="another tensor tells them apart",
        ),
        pytest.param(run([(torch.zeros(16, 4), torch.zeros(16).long())] * 6), id="one answer"),
        pytest.param(run(each(lambda _: torch.zeros(16, 4), 2)), id="two batches"),
        pytest.param(History(), id="empty"),
    ],
)
def test_silent(healthy: History) -> None:
    assert RULE.check(healthy) is None


def test_batches_that_hold_nan_are_not_judged() -> None:
    assert RULE.check(run(each(lambda _: torch.full((16, 4), np.nan)))) is None
