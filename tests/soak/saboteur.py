"""Failures around the library: of the user's code, of numbers, of processes, of whole ranks."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from lightning_plateau.framework import Callback
from tests.digits import digits
from tests.soak.injection import Injection
from tests.soak.sabotage import fired

STALL_S = 1.0
BREAKS = ("training step", "interrupt", "rank dies")
SIGNALS = {
    "SIGKILL": signal.SIGKILL,
    "SIGTERM": signal.SIGTERM,
    "rank is killed": signal.SIGKILL,
}


class UserError(Exception):
    """What the user's code raises."""


class Saboteur(Callback):
    """Makes the training itself go wrong, at one step and on one rank."""

    def __init__(self, injection: Injection, folder: Path) -> None:
        self.injection = injection
        self.folder = folder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        (self.folder / "started").touch()
        for name in ("training_step", "validation_step"):
            setattr(pl_module, name, self._watched(trainer, pl_module, name))
        if self.injection.kind == "data":
            self._spoil_access(trainer.train_dataloader.dataset)

    def _watched(self, trainer: Any, module: Any, name: str) -> Any:
        step = getattr(module, name)

        def watched(*arguments: Any) -> Any:
            now = self._is_now(trainer)
            if now and name == "validation_step" and self.injection.kind == "validation step":
                self._break()
            loss = step(*arguments)
            return self._disturb(module, loss, now) if name == "training_step" else loss

        return watched

    def _is_now(self, trainer: Any) -> bool:
        here = not self.injection.distributed or trainer.global_rank == self.injection.rank
        return here and trainer.global_step >= self.injection.at

    def _break(self) -> None:
        fired(self.folder)
        raise UserError("of the user's own")

    def _disturb(self, module: Any, loss: Any, now: bool) -> Any:
        """Do what is due in a training step, and return the loss that comes of it."""
        kind, once = self.injection.kind, not (self.folder / "fired").exists()
        if not now:
            return loss
        if kind == "stuck on one rank":
            fired(self.folder)
            return 0.0 * loss + 2.3
        if not once:
            return loss
        if kind in SIGNALS and (kind != "SIGKILL" or self.injection.where <= 0.5):
            fired(self.folder)
            os.kill(os.getpid(), SIGNALS[kind])
        if kind in BREAKS:
            fired(self.folder)
            raise KeyboardInterrupt if kind == "interrupt" else UserError("of the user's own")
        if kind in ("NaN loss", "NaN on one rank"):
            fired(self.folder)
            return loss * float("nan")
        if kind == "NaN gradient":
            fired(self.folder)
            self._spoil_gradient(module)
        if kind == "rank stalls":
            fired(self.folder)
            time.sleep(STALL_S)
        return loss

    def _spoil_gradient(self, module: Any) -> None:
        weight = self.injection.choice(list(module.parameters()))
        handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * torch.nan)[1])

    def _spoil_access(self, data: TensorDataset) -> None:
        place = self.injection.at * 5
        read = TensorDataset.__getitem__

        def spoiled(held: Any, index: Any) -> Any:
            if held is data and index == place:
                self._break()
            return read(held, index)

        TensorDataset.__getitem__ = spoiled  # type: ignore[method-assign]

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if not self._is_now(trainer):
            return
        if self.injection.kind == "other callback":
            self._break()
        if self.injection.kind == "folder vanishes" and not (self.folder / "fired").exists():
            fired(self.folder)
            shutil.rmtree(self.folder / "plateau", ignore_errors=True)


def spoil_data(injection: Injection, folder: Path) -> None:
    """Put NaN into an image of training, if that is what is injected."""
    if injection.kind == "NaN data":
        fired(folder)
        digits()[0][injection.at * 5, 0, int(injection.where * 8)] = float("nan")
