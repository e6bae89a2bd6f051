"""The modules and the data of the table: small, real images, and a weight that can be poisoned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    default_collate,
)

from lightning_plateau.framework import PACKAGE, LightningModule
from tests.digits import digits

BATCHES = 6
SIZE = 16
Batch = list[Tensor]


def dataset(*, poisoned: bool = False, first: int = 0) -> TensorDataset:
    """Return six batches of images ``[64]``, labels and weights; one weight of the second is NaN.

    A weight that is NaN makes the loss so whatever the module does with its inputs.
    """
    some = slice(first, first + BATCHES * SIZE)
    images, labels = (part[some] for part in digits())
    weights = torch.ones(len(labels))
    if poisoned:
        weights[SIZE + 3] = float("nan")
    return TensorDataset(images.flatten(1), labels, weights)


def batches(data: Any) -> DataLoader:
    return DataLoader(data, SIZE)


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Samples without a length."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return (self.data[index] for index in range(BATCHES * SIZE))


@dataclass
class Samples:
    images: Tensor
    labels: Tensor
    weights: Tensor


def twice(data: Any) -> DataLoader:
    """Return twice as many batches, for two ranks."""
    return batches(ConcatDataset([data, data]))


def as_dataclass(data: Any) -> DataLoader:
    return DataLoader(data, SIZE, collate_fn=lambda rows: Samples(*default_collate(rows)))


def as_dictionary(data: Any) -> Any:
    loaders = __import__(f"{PACKAGE}.utilities", fromlist=["CombinedLoader"])
    return loaders.CombinedLoader({"main": batches(data), "more": batches(data)}, "min_size")


def unpacked(batch: Any) -> Batch:
    """Return images, labels and weights of a batch of any make."""
    if isinstance(batch, Samples):
        return [batch.images, batch.labels, batch.weights]
    return batch["main"] if isinstance(batch, dict) else batch


class Net(LightningModule):
    """Linear, batch norm, ReLU, dropout, linear; SGD with momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.lr = 0.05
        self.net = self.layers()

    def layers(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.to(self.net[0].weight.dtype))

    def loss(self, batch: Any) -> Tensor:
        images, labels, weights = unpacked(batch)
        return (F.cross_entropy(self(images).float(), labels, reduction="none") * weights).mean()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class Fused(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2, fused=True)


class Scheduled(Net):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Lbfgs(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class Grouped(Net):
    def configure_optimizers(self) -> Any:
        groups = [
            {"params": self.net[0].parameters(), "lr": 0.01},
            {"params": [*self.net[1].parameters(), *self.net[4].parameters()], "weight_decay": 0.1},
        ]
        return torch.optim.AdamW(groups, lr=0.02)


class Manual(Net):
    """Steps its optimizers itself, one after the other where there are several."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizers = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            optimizer.step()
        return loss


class TwoOptimizers(Manual):
    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(self.net[0].parameters(), lr=1e-2),
            torch.optim.SGD(self.net[4].parameters(), lr=1e-1),
        ]


class Sparse(Manual):
    """Sparse gradients of an embedding beside dense ones."""

    def layers(self) -> nn.Module:
        return nn.ModuleList([nn.EmbeddingBag(17, 16, sparse=True, mode="sum"), nn.Linear(16, 10)])

    def forward(self, images: Tensor) -> Tensor:
        return self.net[1](self.net[0]((images * 16).long()) / 64)

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SparseAdam(self.net[0].parameters(), lr=1e-2),
            torch.optim.Adam(self.net[1].parameters(), lr=1e-2),
        ]


class Tied(Net):
    """The last layer is the first one turned round."""

    def layers(self) -> nn.Module:
        return nn.ModuleList([nn.Linear(64, 16), nn.Linear(64, 10)])

    def forward(self, images: Tensor) -> Tensor:
        return self.net[1](F.linear(self.net[0](images).relu(), self.net[0].weight.t()))


class Frozen(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net[0].requires_grad_(False)


class Unused(Net):
    """A layer that no step uses."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 3)


class Complex(Net):
    def layers(self) -> nn.Module:
        return nn.ParameterList([torch.randn(64, 10, dtype=torch.complex64)])

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(torch.complex64) @ self.net[0]).abs()


class Checkpointed(Net):
    def forward(self, images: Tensor) -> Tensor:
        return self.net[2:](checkpoint(self.net[:2], images, use_reentrant=False))


class Compiled(Net):
    def __init__(self) -> None:
        super().__init__()
        self.net[0] = torch.compile(self.net[0], backend="aot_eager")

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class Whole(Net):
    """Computes in its step with nothing that a compiler cannot follow."""

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


def compiled_whole() -> Any:
    return torch.compile(Whole(), backend="aot_eager")


class TwoValidations(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch))


class Sharded(Net):
    """Each rank holds a part of every parameter, and gathers the whole for the forward pass."""

    def configure_model(self) -> None:
        from torch.distributed.fsdp import fully_shard

        mesh = self.device_mesh["data_parallel"]
        for part in (self.net[0], self.net[4], self):
            fully_shard(part, mesh=mesh)


class Parallel(Net):
    """Each rank computes some of the units of the first layer, and a part of the sums after it."""

    def layers(self) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def configure_model(self) -> None:
        from torch.distributed.tensor import parallel

        plan = {"0": parallel.ColwiseParallel(), "2": parallel.RowwiseParallel()}
        parallel.parallelize_module(self.net, self.device_mesh["tensor_parallel"], plan)


class LossParallel(Parallel):
    """The scores stay spread over the ranks, and so does what the loss is computed of."""

    def loss(self, batch: Any) -> Tensor:
        from torch.distributed.tensor.parallel import loss_parallel

        images, labels, weights = unpacked(batch)
        with loss_parallel():
            return F.cross_entropy(self(images), labels) * float(weights.mean())

    def backward(self, *arguments: Any, **settings: Any) -> None:
        from torch.distributed.tensor.parallel import loss_parallel

        with loss_parallel():
            super().backward(*arguments, **settings)

    def configure_model(self) -> None:
        from torch.distributed.tensor import Replicate, parallel

        plan = {
            "0": parallel.ColwiseParallel(output_layouts=Replicate()),
            "2": parallel.ColwiseParallel(use_local_output=False),
        }
        parallel.parallelize_module(self.net, self.device_mesh["tensor_parallel"], plan)
