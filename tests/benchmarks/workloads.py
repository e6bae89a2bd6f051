"""What is trained under the monitors: networks of different shapes, on random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau.framework import LightningModule

CLASSES = 10
SHARES = 2.0
"""Sum of the shares of all residual layers: an optimizer moves all at once, and more explodes."""
DISTINCT = 64
"""Batches that are cut out beforehand; a run goes through them again and again."""


class Classifier(LightningModule):
    """A network and cross entropy, and nothing else that could cost time."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        inputs, labels = batch
        return cross_entropy(self.net(inputs), labels)

    def configure_optimizers(self) -> Any:
        """Return Adam at its usual rate."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Block(nn.Module):
    """A residual block of two convolutions, each with batch norm (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        plain = stride == 1 and inputs == outputs
        self.skip = nn.Identity() if plain else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return torch.relu(self.body(x) + self.skip(x))


class Encoder(nn.Module):
    """A transformer encoder with a head on the mean of its tokens."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores."""
        return self.head(self.body(x).mean(1))


def mlp() -> nn.Module:
    """Return three layers of 64 units: a step of a millisecond."""
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
    )


def resnet20() -> nn.Module:
    """Return ResNet-20 for images of 32 × 32."""
    widths = [16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks: list[nn.Module] = []
    before = 16
    for width in widths:
        blocks.append(Block(before, width, 1 if width == before else 2))
        before = width
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)]
    return nn.Sequential(*stem, *blocks, *head)


def transformer() -> nn.Module:
    """Return four layers of width 256."""
    return Encoder(256, 4)


class Residual(nn.Module):
    """A small layer beside its input: a chain of hundreds of them still learns.

    Args:
        width: Features.
        share: What part of the layer's output is added; the more layers, the less of each.
    """

    def __init__(self, width: int, share: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return the input and a share of what the layer makes of it."""
        return torch.add(x, torch.relu(self.linear(x)), alpha=self.share)


def tensors(count: int) -> Callable[[], nn.Module]:
    """Return a maker of a network of about ``count`` small parameter tensors."""

    def make() -> nn.Module:
        depth = count // 2 - 1
        layers = [Residual(32, SHARES / depth) for _ in range(depth)]
        return nn.Sequential(*layers, nn.Linear(32, CLASSES))

    return make


def hundred_million() -> nn.Module:
    """Return a hundred million parameters in few tensors."""
    return nn.Sequential(
        nn.Linear(4096, 12288),
        nn.ReLU(),
        nn.Linear(12288, 4096),
        nn.ReLU(),
        nn.Linear(4096, CLASSES),
    )


@dataclass(frozen=True)
class Workload:
    """A network, the shape of its batches, and which steps are measured.

    Attributes:
        name: Name in the table.
        make: Makes the network.
        shape: Shape of a sample.
        batch_size: Samples of a batch.
        begins: Steps that are measured as the beginning of a run.
        later: Steps of the same run that are measured as what it costs from then on; None where
            that many would take minutes.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch_size: int
    begins: range
    later: range | None

    def module(self) -> Classifier:
        """Return the module, initialized the same each time."""
        torch.manual_seed(0)
        return Classifier(self.make())

    def loader(self, steps: int) -> DataLoader[Any]:
        """Return a loader of ``steps`` batches, whose classes can be learned.

        A run that learns nothing is sick, and is given experiments and remedies that cost time.
        """
        generator = torch.Generator().manual_seed(1)
        few = DISTINCT * self.batch_size
        labels = torch.randint(CLASSES, (few,), generator=generator)
        prototypes = torch.randn(CLASSES, *self.shape, generator=generator)
        inputs = torch.randn(few, *self.shape, generator=generator) + prototypes[labels]
        order = torch.arange(steps * self.batch_size) % few
        batches = order.view(steps, self.batch_size)
        return DataLoader(_Batches(inputs, labels, batches), batch_size=None)


class _Batches(TensorDataset):
    """Whole batches that are cut out beforehand, so that loading costs next to nothing."""

    def __init__(self, inputs: Tensor, labels: Tensor, batches: Tensor) -> None:
        super().__init__(batches)
        self.cut = [(inputs[rows], labels[rows]) for rows in batches[:DISTINCT]]

    def __getitem__(self, index: Any) -> Any:
        return self.cut[index % len(self.cut)]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("mlp", mlp, (64,), 32, range(50, 500), range(1500, 4500)),
        Workload("resnet20", resnet20, (3, 32, 32), 8, range(10, 60), range(200, 300)),
        Workload("transformer", transformer, (16, 256), 8, range(10, 60), range(200, 300)),
        Workload("400-tensors", tensors(400), (32,), 16, range(10, 60), range(200, 300)),
        Workload("1000-tensors", tensors(1000), (32,), 16, range(10, 60), range(200, 300)),
        Workload("100M-parameters", hundred_million, (4096,), 8, range(2, 12), None),
    )
}
