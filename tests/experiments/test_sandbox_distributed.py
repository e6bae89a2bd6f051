"""Experiments on two ranks: both receive the same, and the replicas stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.digits import Digits
from tests.experiments.conducting import Conducting, ending


class Saving(Conducting):
    def __init__(self, folder: Path, *, idle: bool = False) -> None:
        super().__init__(at=() if idle else (8, 10))
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        rows = [(r.name, r.rows, r.failure, r.inconclusive) for r in self.results]
        state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        torch.save((rows, state), self.folder / f"{trainer.global_rank}.pt")


class Uneven(Digits):
    """Fails on one rank alone, and only where a batch is repeated."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        key = float(batch[0].sum())
        self.times = self.times + 1 if key == getattr(self, "key", None) else 0
        self.key = key
        if self.times == 3 and self.global_rank == 1:
            raise RuntimeError("only here")
        return super().training_step(batch, batch_idx)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("make", [Digits, Uneven])
def test_two_ranks_end_as_without(make: Any, tmp_path: Path) -> None:
    settings = {"strategy": "ddp_fork", "devices": 2, "steps": 12}
    found = {}
    for idle in (False, True):
        folder = tmp_path / str(idle)
        folder.mkdir()
        ending(Saving(folder, idle=idle), make, **settings)
        found[idle] = [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]
    (rows, first), (others, second) = found[False]
    assert rows == others
    assert bool([row for row in rows if row[2]]) is (make is Uneven)
    for (_, here), (_, there) in zip(found[False], found[True], strict=True):
        for name, tensor in here.items():
            assert torch.equal(tensor, there[name])
    for name, tensor in first.items():
        assert "running_" in name or torch.equal(tensor, second[name])
