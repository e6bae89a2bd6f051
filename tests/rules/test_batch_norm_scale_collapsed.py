from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import INITIAL_NORMS, PARAMETER_NORMS
from lightning_plateau.rules.batch_norm_scale_collapsed import BatchNormScaleCollapsed
from lightning_plateau.testing import history
from tests.rules.taped import labels, points, taped

RULE = BatchNormScaleCollapsed()


class Block(nn.Module):
    """A layer with batch norm, with or without a way around it."""

    def __init__(self, *, around: bool) -> None:
        super().__init__()
        self.fc, self.bn, self.head = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        made = torch.relu(self.bn(self.fc(x)))
        out: Tensor = self.head(x + made if self.around else made)
        return out


def run(first: float, now: float, *, around: bool = False) -> History:
    net = Block(around=around)
    seen = taped(lambda net, x, y: F.cross_entropy(net(x), y), net, points(), labels())
    series = {
        INITIAL_NORMS: {"bn.weight": [first]},
        PARAMETER_NORMS: {"bn.weight": [first, now]},
    }
    return history(series, tapes=seen.tapes, profile=seen.profile)


@pytest.mark.parametrize(("now", "confidence"), [(0.08, 0.65), (0.01, 0.85), (0.0, 0.85)])
def test_collapsed(now: float, confidence: float) -> None:
    found = RULE.check(run(2.0, now))
    assert found is not None
    assert found.confidence == confidence
    assert found.where == "bn.weight"


@pytest.mark.parametrize(
    "well",
    [
        run(2.0, 1.5),
        run(0.0, 0.0),
        run(2.0, 0.0, around=True),
        run(float("nan"), 0.0),
        history({PARAMETER_NORMS: {"bn.weight": [0.0]}}),
        History(),
    ],
    ids=["alive", "began at zero", "a way around", "not finite", "no tape", "empty"],
)
def test_silent(well: History) -> None:
    assert RULE.check(well) is None
