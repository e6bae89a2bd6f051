"""Small trainings on real images, to hold the library to its promises."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.framework import LightningModule, Trainer


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return 1,797 images ``[N, 1, 8, 8]`` in [0, 1] and their labels ``[N]``."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


def loader(
    size: int = 256, batch: int = 32, *, shuffle: bool = True, seed: int = 0, first: int = 0
) -> DataLoader:
    """Return a loader of ``size`` digits from ``first`` on, shuffled from a seed of its own."""
    images, labels = digits()
    some = slice(first, first + size)
    return DataLoader(
        TensorDataset(images[some], labels[some]),
        batch,
        shuffle=shuffle,
        generator=torch.Generator().manual_seed(seed),
    )


class Digits(LightningModule):
    """Convolution, batch norm, dropout, linear; trained with AdamW on cross-entropy."""

    def __init__(self, lr: float = 1e-2, augment: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64, 10),
        )
        self.lr = lr
        self.augment = augment

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        if self.augment:
            images = images + 0.05 * torch.randn_like(images)
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("val_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def trainer(*callbacks: Any, **settings: Any) -> Trainer:
    """Return a Trainer on the CPU that prints and writes nothing."""
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(callbacks=list(callbacks), **{**defaults, **settings})
