"""The trainings that are sabotaged: real images, a few dozen steps, the same bits every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_plateau.framework import PACKAGE, Callback
from tests.digits import Digits, loader, trainer

BATCH = 16
EPOCHS = 3
CHECKPOINTED = 5
"""Optimizer steps between checkpoints."""


class Healthy(Digits):
    """Nothing random in its steps, so that a resumed training can be compared bit for bit."""

    def __init__(self) -> None:
        super().__init__()
        self.net[5].p = 0.0


class Softmax(Healthy):
    """Softmax before cross-entropy: certain, and never treated."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(dim=1)


class Hot(Healthy):
    """A learning rate that destroys everything: there is much to treat."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=50.0, momentum=0.9)


MODULES = {"healthy": Healthy, "softmax": Softmax, "hot": Hot}


class Witness(Callback):
    """Stands behind the library's callback: saves how each rank ends, if it does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        step = trainer.global_step
        torch.save({"state": state, "step": step}, self.folder / f"rank{trainer.global_rank}.pt")


def train(name: str, folder: Path, *own: Any, ranks: int = 1, resume: Path | None = None) -> Any:
    """Train under the callbacks ``own``, and return the Trainer."""
    torch.manual_seed(1)
    callbacks = __import__(f"{PACKAGE}.callbacks", fromlist=["ModelCheckpoint"])
    loggers = __import__(f"{PACKAGE}.loggers", fromlist=["CSVLogger"])
    saving = callbacks.ModelCheckpoint(
        folder / "checkpoints", "{step}", every_n_train_steps=CHECKPOINTED, save_top_k=-1
    )
    settings = {"strategy": "ddp_fork"} if ranks > 1 else {}
    fit = trainer(
        *own,
        Witness(folder),
        saving,
        max_epochs=EPOCHS,
        enable_checkpointing=True,
        logger=loggers.CSVLogger(folder / "logs", flush_logs_every_n_steps=5),
        log_every_n_steps=4,
        devices=ranks,
        **settings,
    )
    data = loader(BATCH * 12 * ranks, BATCH, shuffle=False)
    checked = loader(32, BATCH, shuffle=False, first=1500)
    fit.fit(MODULES[name](), data, checked, ckpt_path=resume)
    return fit


def latest(folder: Path) -> Path | None:
    """Return the last checkpoint, as a user would look for it."""
    saved = sorted((folder / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    return saved[-1] if saved else None
