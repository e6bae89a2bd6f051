"""After any remedy all replicas are equal: two processes, each with batches of its own."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.core.remedy import Remedy
from lightning_plateau.core.signal import GRADIENT_NORM, SKIPPED_STEPS, VALIDATION_LOSS
from lightning_plateau.remedies import catalogue
from lightning_plateau.testing import history
from tests.remedies.test_contract import Sick, forward_pass
from tests.trainings import Guarding, fit

ALONE = ("average-weights",)
"""What cannot begin amid a training: Lightning's own callback tests it."""
EVERY = [remedy for remedy in catalogue() if not remedy.final and remedy.name not in ALONE]
STEPS = 4 + 2 * len(EVERY)


class Treating(Guarding):
    """Applies one remedy after the other, and takes it back after a step that was made with it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.left = list(EVERY)
        self.on_trial: tuple[Remedy, Any] | None = None
        self.seen: dict[str, Any] = {}

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end()
        run = self.run
        if run.step in (1, 2):
            run.snapshots.keep(run)
        if run.step < 3:
            return
        if self.on_trial is not None:
            remedy, change = self.on_trial
            self._note(remedy.name, pl_module)
            remedy.revert(run, change)
            self._note(f"{remedy.name}, taken back", pl_module)
            self.on_trial = None
        elif self.left:
            self.on_trial = self._apply(self.left.pop(0)(), batch)

    def _apply(self, remedy: Remedy, batch: Any) -> tuple[Remedy, Any]:
        run = self.run
        run.allow_user_overrides = True
        run.batch = [100.0 * tensor for tensor in batch]
        run.module.net[1].momentum = 1.0
        if remedy.name == "restore-batch-norm":
            run.module.net[1].running_var[0] = float("inf")
        series = {
            GRADIENT_NORM: np.linspace(1.0, 2.0, 40),
            VALIDATION_LOSS: np.linspace(1.0, 2.0, 4),
        }
        series[SKIPPED_STEPS] = np.eye(1, 10, 4)[0]
        run.refresh(history(series, loss=[1.0] * 40, tapes=[forward_pass(convolved=True)]))
        reason = remedy.obstacle(run)
        assert reason is None, f"{remedy.name}: {reason}"
        return remedy, remedy.apply(run)

    def _note(self, name: str, module: Any) -> None:
        # Batch norm keeps statistics of its own on each rank.
        state = {k: v.clone() for k, v in module.state_dict().items() if "running_" not in k}
        self.seen[name] = state

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.run.close()
        ended = {"left": len(self.left), "attached": len(self.run.attachments), "seen": self.seen}
        torch.save(ended, self.folder / f"{trainer.global_rank}.pt")


def far_from_zero() -> DataLoader:
    generator = torch.Generator().manual_seed(5)
    points = 100 + 30 * torch.randn(2 * 4 * STEPS, 3, generator=generator)
    return DataLoader(TensorDataset(points, points.sum(dim=-1, keepdim=True)), batch_size=4)


@pytest.mark.distributed
@pytest.mark.slow
def test_replicas_stay_equal_whatever_is_done(tmp_path: Path) -> None:
    # The convolution of the module is there to be asked for, and is not used.
    strategy = DDPStrategy(start_method="spawn", find_unused_parameters=True)
    settings = {"strategy": strategy, "devices": 2}
    fit(Sick(partial(Adam, lr=1e-4)), far_from_zero(), Treating(tmp_path), **settings)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert (first["left"], first["attached"]) == (0, 0)
    assert len(first["seen"]) == 2 * len(EVERY)
    for name, state in first["seen"].items():
        for key, tensor in state.items():
            assert torch.equal(tensor, second["seen"][name][key]), (name, key)
            assert torch.isfinite(tensor).all(), (name, key)
