"""What earlier steps left in the gradients is measured before the tape ends, and not on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from lightning_plateau import PlateauCallback
from lightning_plateau.core.signal import GRADIENTS_LEFT_OVER
from tests.digits import Digits, loader, trainer


class NeverCleared(Digits):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        self.manual_backward(F.cross_entropy(self(images), labels))
        self.optimizers().step()


def test_measuring_leaves_no_trace_on_the_tape(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = PlateauCallback(policy="observe", dirpath=str(tmp_path), quiet=True)
    trainer(own).fit(NeverCleared(), loader(128, 32))
    assert own.history[GRADIENTS_LEFT_OVER].values[-1] > 0
    for tape in own.history.tapes:
        made = [operation.name for operation in tape.operations]
        assert not {"stack", "vector_norm", "_foreach_norm", "view"}.intersection(made)
