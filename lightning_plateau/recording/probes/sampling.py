"""Evenly spaced elements, so that the cost of a look stays bounded however large the tensor."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spread(tensor: Tensor, limit: int) -> Tensor:
    """Return at most ``limit`` evenly spaced elements of ``tensor``, flat; a view where it can be.

    A stride that shares a factor with the row length would look at a few features only and take
    their moments for those of all; so the stride is coprime to the number of elements.

    Args:
        tensor: Dense tensor of any shape.
        limit: Most elements to return, at least 1.

    Example:
        >>> rows = torch.arange(8.0).repeat(64)  # eight features, 64 samples
        >>> sorted(set(spread(rows, 64).tolist())) == list(range(8))
        True
    """
    flat = tensor.reshape(-1)
    count = flat.numel()
    if count <= limit:
        return flat
    stride = -(-count // limit)
    while math.gcd(stride, count) > 1:
        stride += 1
    return flat[::stride]


def dense_values(tensor: Tensor) -> Tensor:
    """Return the stored values of a sparse or nested tensor; a dense tensor as it is.

    Example:
        >>> dense_values(torch.eye(3).to_sparse())
        tensor([1., 1., 1.])
    """
    if tensor.layout is torch.strided:
        ragged = tensor.is_nested
        return torch.cat([part.reshape(-1) for part in tensor.unbind()]) if ragged else tensor
    return tensor.coalesce().values() if tensor.layout is torch.sparse_coo else tensor.values()
