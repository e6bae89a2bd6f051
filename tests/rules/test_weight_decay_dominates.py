from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_plateau import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import GroupFact, OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.signal import (
    GRADIENT_NORMS,
    INITIAL_NORMS,
    LEARNING_RATES,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)
from lightning_plateau.rules.weight_decay_dominates import WeightDecayDominates
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer

RULE = WeightDecayDominates()


def run(
    norms: list[float],
    *,
    gradient: float = 1.0,
    decay: float = 1.0,
    kind: str = "SGD",
    update: float = 0.1,
) -> History:
    group = GroupFact(("fc.weight", "fc.bias"), {"lr": 0.1, "weight_decay": decay})
    facts = (ParameterFact("fc.weight", "fc", (4, 4)), ParameterFact("fc.bias", "fc", (4,)))
    rows = len(norms)
    signals = {
        INITIAL_NORMS: {"fc.weight": [10.0], "fc.bias": [0.0]},
        PARAMETER_NORMS: {"fc.weight": norms, "fc.bias": [0.0] * rows},
        GRADIENT_NORMS: {"fc.weight": [gradient] * rows, "fc.bias": [1.0] * rows},
        UPDATE_RATIOS: {"fc.weight": [update] * rows, "fc.bias": [1.0] * rows},
        LEARNING_RATES: {"0": [0.1] + [float("nan")] * (rows - 1)},
    }
    profile = Profile(parameters=facts, optimizers=(OptimizerFact(kind, (group,)),))
    return history(signals, loss=[2.3] * rows, profile=profile)


SHRINKING = [9.0, 8.0, 6.0, 4.0, 3.0]


@pytest.mark.parametrize(
    ("made", "speaks"),
    [
        (run(SHRINKING), True),
        (run(SHRINKING, gradient=100.0), False),
        (run(SHRINKING, decay=1e-4), False),
        (run(SHRINKING, decay=0.0), False),
        (run([9.9, 9.8, 9.7]), False),
        (run([90.0, 800.0, 7000.0], decay=100.0), True),
        (run([90.0, 800.0, 7000.0], decay=1e-4), False),
        (run(SHRINKING, kind="AdamW"), True),
        (run(SHRINKING, kind="AdamW", update=0.9), False),
        (run(SHRINKING, kind="AdamW", decay=0.01, update=0.01), False),
        (run([float("nan")] * 3), False),
    ],
)
def test_share_and_size(made: History, speaks: bool) -> None:
    assert (RULE.check(made) is not None) is speaks


class Decaying(Digits):
    def __init__(self, kind: type[torch.optim.Optimizer], lr: float, decay: float) -> None:
        super().__init__()
        self.settings = kind, lr, decay

    def configure_optimizers(self) -> Any:
        kind, lr, decay = self.settings
        return kind(self.parameters(), lr=lr, weight_decay=decay)


@pytest.mark.parametrize(
    ("kind", "lr", "decay"), [(torch.optim.SGD, 0.1, 1.0), (torch.optim.Adam, 1e-2, 10.0)]
)
def test_training_that_is_pulled_to_zero(kind: Any, lr: float, decay: float, tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path))
    trainer(callback, max_epochs=15).fit(Decaying(kind, lr, decay), loader())
    assert callback.findings[0].code == "LP413"


@pytest.mark.parametrize(
    ("kind", "lr", "decay"), [(torch.optim.SGD, 0.1, 1e-4), (torch.optim.AdamW, 1e-2, 0.1)]
)
def test_training_with_ordinary_decay(kind: Any, lr: float, decay: float, tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path))
    trainer(callback, max_epochs=8).fit(Decaying(kind, lr, decay), loader())
    assert "LP413" not in [finding.code for finding in callback.findings]
    assert RULE.check(callback.history) is None
