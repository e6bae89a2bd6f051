"""Two ranks come to one diagnosis, and what differs between them is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_plateau import PlateauCallback
from lightning_plateau.framework import Callback
from tests.digits import Digits, loader, trainer
from tests.trainings import Regressor, batches, fit


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


def ranks(module: Digits, folder: Path, *more: Any, devices: int = 2, **own: Any) -> list[Any]:
    """Train on several ranks; return what each has found, and how it ended."""
    callback = Saving(dirpath=str(folder), every_n_steps=10, quiet=True, log=False, **own)
    torch.manual_seed(1)
    training = trainer(callback, *more, strategy="ddp_fork", devices=devices, max_epochs=2)
    training.fit(module, loader(320 * devices, 16))
    return [torch.load(folder / f"{rank}.pt") for rank in range(devices)]


def assert_alike(ends: list[Any]) -> None:
    """Every rank came to the same findings, and to the same weights, which are finite."""
    disabled, found, weights = ends[0]
    assert not disabled
    assert "LP901" not in dict(found)
    for other in ends[1:]:
        assert other[:2] == ends[0][:2]
        pairs = zip(weights, other[2], strict=True)
        assert all(torch.equal(a, b) and a.isfinite().all() for a, b in pairs)


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
    assert_alike(ranks(module(), tmp_path, policy="auto"))


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("module", [Broken, Stuck])
def test_four_ranks(module: Any, tmp_path: Path) -> None:
    assert_alike(ranks(module(), tmp_path, devices=4, policy="auto"))


@pytest.mark.distributed
@pytest.mark.slow
def test_spawned_ranks(tmp_path: Path) -> None:
    callback = Saving(dirpath=str(tmp_path), every_n_steps=10, quiet=True)
    fit(Regressor(), batches(40), callback, strategy="ddp_spawn", devices=2)
    assert_alike([torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)])


@pytest.mark.distributed
@pytest.mark.slow
def test_ranks_that_are_started_as_scripts(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import torch\n"
        "from tests.digits import Digits, loader, trainer\n"
        "from tests.test_two_processes import Saving\n"
        f"own = Saving(dirpath={str(tmp_path)!r}, every_n_steps=10, quiet=True)\n"
        "torch.manual_seed(1)\n"
        "fit = trainer(own, strategy='ddp', devices=2, max_epochs=2)\n"
        "fit.fit(Digits(), loader(640, 16))\n"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-W", "ignore", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert_alike([torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)])


class Counting(Callback):
    """Counts what the library asks of the other ranks, and writes it down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent: list[str] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        for name in ("reduce", "broadcast"):
            setattr(trainer.strategy, name, self._counted(name, getattr(trainer.strategy, name)))

    def _counted(self, name: str, send: Any) -> Any:
        def counted(*arguments: Any, **settings: Any) -> Any:
            if "lightning_plateau" in sys._getframe(1).f_globals["__name__"]:
                self.sent.append(name)
            return send(*arguments, **settings)

        return counted

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        torch.save(self.sent, self.folder / f"sent{trainer.global_rank}.pt")


@pytest.mark.distributed
@pytest.mark.slow
def test_an_ordinary_drain_asks_the_other_ranks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_plateau.watch.Cadence.due", lambda *_, **__: False)
    ends = ranks(Digits(), tmp_path, Counting(tmp_path), policy="observe")
    assert ends[0][:2] == ends[1][:2]
    sent = torch.load(tmp_path / "sent0.pt")
    # 40 steps are four drains; the replicas are compared at the first, and all diagnose there.
    assert sent == ["reduce"] + ["reduce"] * 2 + ["reduce", "broadcast"] + ["reduce"] * 4


@pytest.mark.distributed
@pytest.mark.slow
def test_a_rank_that_dies_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"only here|closed by peer"):
        ranks(Dying(), tmp_path, policy="auto")


SHARDED = """
import sys
import torch
from torch.distributed.fsdp import fully_shard
from lightning_plateau.core import signal
from lightning_plateau.framework import PACKAGE
from tests.digits import Digits, loader, trainer
from tests.test_two_processes import Saving

class Sharded(Digits):
    def configure_model(self):
        mesh = self.device_mesh["data_parallel"]
        for part in (self.net[0], self.net[6], self):
            fully_shard(part, mesh=mesh)

class Own(Saving):
    def on_train_end(self, trainer, pl_module):
        super(Saving, self).on_train_end(trainer, pl_module)
        said = self.disabled, [(f.code, f.message) for f in self.findings]
        norms = self.history[signal.GRADIENT_NORM].values.tolist()
        torch.save((*said, norms), f"{self._dirpath}/{trainer.global_rank}.pt")

strategies = __import__(f"{PACKAGE}.strategies", fromlist=["ModelParallelStrategy"])
strategy = strategies.ModelParallelStrategy(2, 1, process_group_backend="gloo")
own = Own(dirpath=sys.argv[1], every_n_steps=5, quiet=True, policy="auto", check=True)
trainer(own, strategy=strategy, devices=2, max_epochs=2).fit(Sharded(), loader(320, 16))
"""


@pytest.mark.distributed
@pytest.mark.slow
def test_sharded_parameters_are_watched_and_experiments_refused_once(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SHARDED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    (disabled, found, norms), second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert not disabled
    assert [code for code, _ in found] == ["LP903"]
    assert "spread over the ranks" in found[0][1]
    assert (disabled, found, norms) == second
    assert len(norms) == 20
