"""Real data that ships in packages, as tensors; every split and order is fixed."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import sklearn.datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

Table = tuple[Tensor, Tensor]


def _shuffled(features: Any, targets: Any, dtype: torch.dtype) -> Table:
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    x = torch.as_tensor(features, dtype=torch.float32)[order]
    return x, torch.as_tensor(targets).to(dtype)[order]


@cache
def digits() -> Table:
    """Return 1,797 images ``[N, 1, 8, 8]`` in 0 … 16, and their labels ``[N]``."""
    data = sklearn.datasets.load_digits()
    return _shuffled(data.images[:, None], data.target, torch.int64)


@cache
def wine() -> Table:
    """Return 178 wines of 13 unscaled features, and 3 classes."""
    data = sklearn.datasets.load_wine()
    return _shuffled(data.data, data.target, torch.int64)


@cache
def iris() -> Table:
    """Return 150 flowers of 4 features, and 3 classes."""
    data = sklearn.datasets.load_iris()
    return _shuffled(data.data, data.target, torch.int64)


@cache
def breast_cancer() -> Table:
    """Return 569 tumours of 30 unscaled features, and 2 classes."""
    data = sklearn.datasets.load_breast_cancer()
    return _shuffled(data.data, data.target, torch.int64)


@cache
def diabetes() -> Table:
    """Return 442 patients of 10 scaled features, and an unscaled target in 25 … 346."""
    data = sklearn.datasets.load_diabetes()
    return _shuffled(data.data, data.target, torch.float32)


@cache
def photographs() -> Table:
    """Return 800 patches ``[N, 3, 16, 16]`` in 0 … 255, and which of two photographs each is of."""
    patches, labels = [], []
    for label, photo in enumerate(sklearn.datasets.load_sample_images().images):
        image = torch.tensor(photo).permute(2, 0, 1)
        tiles = image.unfold(1, 16, 16).unfold(2, 16, 16).flatten(1, 2).transpose(0, 1)
        chosen = torch.randperm(len(tiles), generator=torch.Generator().manual_seed(label))[:400]
        patches.append(tiles[chosen])
        labels += [label] * len(chosen)
    return _shuffled(torch.cat(patches), labels, torch.int64)


@cache
def text(length: int = 32) -> Table:
    """Return 1,500 lines of characters ``[N, length]`` as numbers below 128, and the next ones.

    The text is the source of Python's own standard library: a language with much structure.
    """
    source = "".join(inspect.getsource(module) for module in (inspect, __import__("argparse")))
    codes = torch.tensor([min(ord(letter), 127) for letter in source])
    starts = torch.randperm(len(codes) - length - 1, generator=torch.Generator().manual_seed(0))[
        :1500
    ]
    rows = torch.stack([codes[start : start + length + 1] for start in starts.tolist()])
    return rows[:, :-1], rows[:, 1:]


def standardized(features: Tensor) -> Tensor:
    """Return features of mean 0 and standard deviation 1 each; constant ones become 0."""
    mean, std = features.mean(0, keepdim=True), features.std(0, keepdim=True)
    return (features - mean) / std.clamp_min(1e-6)


def loaders(
    features: Tensor,
    targets: Tensor,
    *,
    batch_size: int = 32,
    shuffle: bool = True,
    held_out: float = 0.25,
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders of the first part and of the ``held_out`` last share."""
    cut = round(len(features) * (1 - held_out))
    train = TensorDataset(features[:cut], targets[:cut])
    validation = TensorDataset(features[cut:], targets[cut:])
    return DataLoader(train, batch_size, shuffle=shuffle), DataLoader(validation, 256)
