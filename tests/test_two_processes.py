"""Two ranks come to one diagnosis, and what differs between them is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_plateau import PlateauCallback
from tests.digits import Digits, loader, trainer


class Saving(PlateauCallback):
    """Saves what each rank found, and how it ended."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_end(trainer, pl_module)
        found = [(one.code, one.message) for one in self.findings]
        weights = [parameter.detach().clone() for parameter in pl_module.parameters()]
        folder = Path(self._dirpath or "")
        torch.save((self.disabled, found, weights), folder / f"{trainer.global_rank}.pt")


class Strayed(Digits):
    """One replica is changed by hand."""

    def on_train_start(self) -> None:
        if self.global_rank == 1:
            with torch.no_grad():
                self.net[6].weight.mul_(1.5)


class Broken(Digits):
    """The loss is NaN once, on one rank alone."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.global_rank == 1 and batch_idx == 7 else loss


class Stuck(Digits):
    """On one rank alone the loss says the same whatever is learned."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return 0.0 * loss + 2.3 if self.global_rank == 1 else loss


class Dying(Digits):
    """One rank dies."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_rank == 1 and batch_idx == 12:
            raise RuntimeError("only here")
        return super().training_step(batch, batch_idx)


def ranks(module: Digits, folder: Path, **settings: Any) -> list[Any]:
    own = Saving(dirpath=str(folder), every_n_steps=10, quiet=True, log=False, **settings)
    torch.manual_seed(1)
    fit = trainer(own, strategy="ddp_fork", devices=2, max_epochs=2)
    fit.fit(module, loader(640, 16))
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.distributed
@pytest.mark.slow
def test_a_replica_that_was_changed_by_hand(tmp_path: Path) -> None:
    first, second = ranks(Strayed(), tmp_path, policy="observe")
    assert first[:2] == second[:2]
    said = dict(first[1])
    assert "net.6.weight" in said["LP901"]
    assert (tmp_path / "journal.jsonl").stat().st_size > 0
    assert (tmp_path / "history.npz").exists()


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("module", [Digits, Broken, Stuck])
def test_equal_replicas_stay_so(module: Any, tmp_path: Path) -> None:
    first, second = ranks(module(), tmp_path, policy="auto")
    assert first[:2] == second[:2]
    assert not first[0]
    assert "LP901" not in dict(first[1])
    assert all(
        torch.equal(a, b) and a.isfinite().all() for a, b in zip(first[2], second[2], strict=True)
    )


@pytest.mark.distributed
@pytest.mark.slow
def test_a_rank_that_dies_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"only here|closed by peer"):
        ranks(Dying(), tmp_path, policy="auto")
