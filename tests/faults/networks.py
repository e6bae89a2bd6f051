"""Small networks of several families, as a user would write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def perceptron(
    inputs: int, outputs: int, width: int = 32, depth: int = 1, act: Any = nn.ReLU
) -> nn.Sequential:
    """Return ``depth`` hidden layers of ``width`` units; one output is returned as ``[N]``."""
    layers: list[nn.Module] = []
    for size in [inputs, *[width] * (depth - 1)]:
        layers += [nn.Linear(size, width), act()]
    return nn.Sequential(
        *layers, nn.Linear(width, outputs), *([nn.Flatten(0)] if outputs == 1 else [])
    )


def convolutions(channels: int, outputs: int, size: int, width: int = 8) -> nn.Sequential:
    """Return a network for images of ``size`` × ``size``."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(2 * width * (size // 2) ** 2, outputs),
    )  # fmt: skip


class Rows(nn.Module):
    """A recurrent classifier that reads an image ``[N, 1, 8, 8]`` row by row."""

    def __init__(self, outputs: int = 10, width: int = 32) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.squeeze(1))[0][:, -1])


class Writer(nn.Module):
    """A language model of characters: which one comes next?"""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 128)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0])


class Attention(nn.Module):
    """A small transformer that classifies sequences of characters or of vectors.

    Args:
        outputs: Classes.
        inputs: Features of a vector; None for characters.
    """

    def __init__(self, outputs: int, inputs: int | None = None, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, width) if inputs is None else nn.Linear(inputs, width)
        self.places = nn.Parameter(0.02 * torch.randn(64, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        return self.head(self.body(h + self.places[: h.shape[1]]).mean(1))


def next_character(said: Tensor, y: Tensor) -> Tensor:
    """Return the loss of a language model."""
    return F.cross_entropy(said.flatten(0, 1), y.flatten())
