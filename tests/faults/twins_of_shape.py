"""Sick programs that lose what a sequence or an image is in order, each beside its healthy twin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, answers
from tests.faults.program import Training, program


class _Reader(LightningModule):
    def __init__(self, *, aligned: bool) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(128, 32), nn.LSTM(32, 64)
        self.head = nn.Linear(64, 128)
        self.aligned = aligned

    def _loss(self, x: Tensor) -> Tensor:
        said = self.head(self.rnn(self.embed(x[:, :-1].t()))[0])  # [places, samples, letters]
        wanted = x[:, 1:].t() if self.aligned else x[:, 1:]
        return F.cross_entropy(said.flatten(0, 1), wanted.reshape(-1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch[0])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch[0]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def _read(*, mended: bool) -> Training:
    train, validation = data.loaders(*data.text())
    module = _Reader(aligned=mended)

    def reads() -> bool:
        with torch.no_grad():
            return float(module._loss(data.text()[0][:200])) < 2.5

    return Training(module, train, validation, {"max_epochs": 8}, reads)


@program(
    "LP802", "LP807", "LP910", accepted=("LP104",), shows=("LP401",), family="rnn", data="text"
)
def letters_flattened_across_lines() -> Training:
    """Predictions are flattened place by place, the next letters line by line."""
    return _read(mended=False)


@program(family="rnn", data="text")
def letters_flattened_alike() -> Training:
    """A model of letters whose targets are a part of its input tensor."""
    return _read(mended=True)


def _pixels(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, channels, 1),
    )


def _discs() -> tuple[Tensor, Tensor]:
    """Return 500 noisy images ``[N, 16, 24]`` of a disc, and where it is."""
    draw = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(24.0), indexing="ij")
    row, column = 2 + torch.rand(2, 500, 1, 1, generator=draw)
    row, column = 12 * row - 22, 20 * column - 38
    inside = (rows - row) ** 2 + (columns - column) ** 2 < 16
    return inside + 0.4 * torch.randn(inside.shape, generator=draw), inside.float()


def _masks(*, mended: bool) -> Training:
    images, masks = _discs()
    train, validation = data.loaders(images[:, None], masks if mended else masks.permute(0, 2, 1))

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(said, y.reshape(said.shape))

    module = Learner(_pixels(1), loss, adam(3e-3))

    def finds() -> bool:
        said, wanted = answers(module, validation)
        return (
            float(((said[:, 0] > 0) == (wanted.reshape(said[:, 0].shape) > 0.5)).double().mean())
            > 0.95
        )

    return Training(module, train, validation, {"max_epochs": 12}, finds)


@program("LP711", family="segmentation", data="synthetic")
def masks_reshaped_back() -> Training:
    """The loader gives masks by width and height, and a reshape makes their shape fit."""
    return _masks(mended=False)


@program(family="segmentation", data="synthetic", part="validation")
def masks_with_a_channel() -> Training:
    """Masks are reshaped to have a channel, as the scores have."""
    return _masks(mended=True)


def _parts(*, mended: bool) -> Training:
    images, masks = _discs()
    parts = masks.long() * (1 + (images > 1).long())

    def loss(said: Tensor, y: Tensor) -> Tensor:
        scores = said.permute(0, 2, 3, 1) if mended else said
        return F.cross_entropy(scores.reshape(-1, 3), y.reshape(-1))

    module = Learner(_pixels(3), loss, adam(3e-3))
    train, validation = data.loaders(images[:, None], parts)

    def finds() -> bool:
        said, wanted = answers(module, validation)
        return float((said.argmax(1) == wanted).double().mean()) > 0.95

    return Training(module, train, validation, {"max_epochs": 12}, finds)


@program("LP711", accepted=("LP104",), family="segmentation", data="synthetic")
def scores_of_pixels_flattened() -> Training:
    """Scores ``[N, 3, H, W]`` become ``[-1, 3]``: rows of three neighbours, not of classes."""
    return _parts(mended=False)


@program(family="segmentation", data="synthetic")
def scores_of_pixels_moved_last() -> Training:
    """Scores are permuted before they are flattened to one row a pixel."""
    return _parts(mended=True)


class _Counting(nn.Module):
    """A cell that is called step by step; its state is made before the loop, or within it."""

    def __init__(self, *, kept: bool) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(1, 32), nn.Linear(32, 2)
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), 32)
        for step in range(x.shape[1]):
            state = state if self.kept else torch.zeros(len(x), 32)
            state = self.cell(x[:, step], state)
        return self.head(state)


def _counted(*, mended: bool) -> Training:
    x = torch.randn(1500, 8, 1, generator=torch.Generator().manual_seed(0))
    module = Learner(_Counting(kept=mended), optimizer=adam(3e-3))
    train, validation = data.loaders(x, (x[:, :6, 0].sum(1) > 0).long())
    settings = {"max_epochs": 10}
    return Training(module, train, validation, settings, lambda: accuracy(module, validation) > 0.9)


@program("LP304", accepted=("LP803", "LP802"), family="rnn", data="synthetic")
def state_made_within_the_loop() -> Training:
    """The state of a cell is made within the loop, so that only the last step is ever seen."""
    return _counted(mended=False)


@program(family="rnn", data="synthetic", part="validation")
def state_made_before_the_loop() -> Training:
    """The state of a cell is made before the loop, and handed on."""
    return _counted(mended=True)
