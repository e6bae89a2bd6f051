"""A run that began again with shorter steps, by an estimate, is offered longer or better ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_plateau import PlateauCallback
from lightning_plateau.core.signal import LOSS
from tests.digits import Digits, loader, trainer

Optimizer = type[torch.optim.Optimizer]


class TooFast(Digits):
    """A network whose first steps ruin it."""

    def __init__(self, optimizer: Optimizer, rate: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 48),
            nn.ReLU(),
            nn.Linear(48, 48),
            nn.ReLU(),
            nn.Linear(48, 10),
        )
        self.make = optimizer, rate

    def configure_optimizers(self) -> Any:
        kind, rate = self.make
        return kind(self.parameters(), lr=rate)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "rate", "next_remedy"),
    [(torch.optim.Adam, 1.0, "raise-learning-rate"), (torch.optim.SGD, 30.0, "switch-optimizer")],
)
def test_what_follows_on_shorter_steps(
    tmp_path: Path, optimizer: Optimizer, rate: float, next_remedy: str
) -> None:
    torch.manual_seed(0)
    own = PlateauCallback(policy="auto", dirpath=str(tmp_path), quiet=True)
    trainer(own, max_epochs=9).fit(TooFast(optimizer, rate), loader(1600, 32))
    made = [one.remedy for one in own.journal.interventions]
    assert made[:2] == ["decay-learning-rate", next_remedy]
    assert np.median(own.history[LOSS].values[-30:]) < 0.3
