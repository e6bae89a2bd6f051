"""All replicas decide the same: two processes, and a batch that is damaged on one of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Adam, AdamW
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.training.guard import GuardSettings
from tests.trainings import Guarding, Regressor, fit


class Saving(Guarding):
    def __init__(self, folder: Path) -> None:
        super().__init__(GuardSettings(skip_non_finite=True, clip_norm=0.5))
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_end()
        state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        torch.save((self.skipped, state), self.folder / f"{trainer.global_rank}.pt")


def damaged_on_one_rank() -> DataLoader:
    points = torch.randn(48, 3, generator=torch.Generator().manual_seed(5))
    points[25] = float("nan")
    return DataLoader(TensorDataset(points, points.sum(dim=-1, keepdim=True)), batch_size=4)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("make", [partial(Adam, lr=0.01), partial(AdamW, lr=0.01, fused=True)])
def test_a_batch_that_is_damaged_on_one_rank_is_skipped_on_all(make: Any, tmp_path: Path) -> None:
    settings = {"strategy": "ddp_spawn", "devices": 2}
    fit(Regressor(make), damaged_on_one_rank(), Saving(tmp_path), **settings)
    (skipped, first), (others, second) = (torch.load(tmp_path / f"{r}.pt") for r in (0, 1))
    assert skipped == others
    assert sum(skipped) == 1
    for name, tensor in first.items():
        assert torch.isfinite(tensor).all()
        assert torch.isfinite(second[name]).all()
        # Batch norm keeps statistics of its own on each rank.
        assert "running_" in name or torch.equal(tensor, second[name])
