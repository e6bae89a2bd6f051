"""After any remedy all replicas are equal: two processes, each with batches of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.core.signal import GRADIENT_NORM, VALIDATION_LOSS
from lightning_plateau.remedies import by_name
from lightning_plateau.testing import history
from tests.remedies.test_contract import forward_pass
from tests.trainings import Guarding, Regressor, fit

TOGETHER = (
    ("standardize-input", "switch-optimizer", "warm-up", "dropout", "l1-penalty"),
    ("replace-activation", "normalize-gradients", "weight-decay", "reset-batch-norm"),
    ("reinitialize", "clip-gradients", "raise-learning-rate", "roll-back"),
)


class Treating(Guarding):
    """Applies remedies after step 3 and saves how each replica ends."""

    def __init__(self, folder: Path, remedies: tuple[str, ...]) -> None:
        super().__init__()
        self.folder = folder
        self.remedies = remedies

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end()
        if self.run.step == 1:
            self.run.snapshots.keep(self.run)
        if self.run.step != 3:
            return
        self.run.batch = batch
        norms = {GRADIENT_NORM: [1.0] * 40, VALIDATION_LOSS: [1.0] * 4}
        self.run.refresh(history(norms, loss=[1.0] * 40, tapes=[forward_pass()]))
        for name in self.remedies:
            remedy = by_name()[name]()
            assert remedy.obstacle(self.run) is None, name
            remedy.apply(self.run)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.run.close()
        state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        torch.save((len(self.run.attachments), state), self.folder / f"{trainer.global_rank}.pt")


def far_from_zero() -> DataLoader:
    points = 100 + 30 * torch.randn(64, 3, generator=torch.Generator().manual_seed(5))
    return DataLoader(TensorDataset(points, points.sum(dim=-1, keepdim=True)), batch_size=4)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("remedies", TOGETHER, ids=lambda names: names[0])
def test_replicas_stay_equal(remedies: tuple[str, ...], tmp_path: Path) -> None:
    settings = {"strategy": "ddp_spawn", "devices": 2}
    make = partial(SGD, lr=1e-4, momentum=0.9)
    fit(Regressor(make), far_from_zero(), Treating(tmp_path, remedies), **settings)
    (left, first), (_, second) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert left == 0
    for name, tensor in first.items():
        # Batch norm keeps statistics of its own on each rank.
        assert "running_" in name or torch.equal(tensor, second[name])
        assert torch.isfinite(tensor).all()
