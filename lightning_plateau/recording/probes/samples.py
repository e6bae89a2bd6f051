"""What a sample is known by: a fingerprint of its inputs, and its label."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_plateau.recording.probes.sampling import spread

MOST_COLUMNS = 1024
"""Elements of a sample that enter with a weight of their own: as many in a batch of any size."""
MOST_LABELS = 4096
_ODD = (-7046029254386353131, -4658895280553007687)
"""Odd multipliers whose bits are spread evenly, as signed 64-bit integers."""


def fingerprints(tensors: Sequence[Tensor]) -> Tensor:
    """Return two numbers of 24 bits for each sample, ``[n, 2]`` float32, still on the device.

    Samples whose tensors are equal have equal fingerprints, whatever batch they come in; others
    share one by a chance of 2**-48. All elements enter by their sum, and 1,024 of a sample each
    with a weight of its own. Whole numbers that wrap around carry it,
    so that no order of additions and no rounding matters; 24 bits pass through float32 unchanged.

    Args:
        tensors: Dense tensors of one sample size, ``[n, …]`` each.

    Example:
        >>> rows = torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
        >>> first, second, third = fingerprints([rows]).tolist()
        >>> first == third, first == second
        (True, False)
    """
    total = torch.zeros((), dtype=torch.int64, device=tensors[0].device)
    for tensor in tensors:
        bits = _bits(tensor.detach())
        columns = _spread_columns(bits, MOST_COLUMNS)
        weighed = (_folded(columns) * _weights(columns)).sum(dim=1)
        whole = bits.sum(dim=1, dtype=bits.dtype).to(torch.int64)
        total = _mixed(total + weighed + whole * _ODD[1])
    # The upper bits of a product are the well-mixed ones.
    return torch.stack([(total >> 40) & 0xFFFFFF, (total >> 16) & 0xFFFFFF], dim=1).float()


def label_values(target: Tensor, classes: int) -> Tensor:
    """Return the class labels in ``target``, at most 4,096 evenly spaced, flat float32.

    Args:
        target: Labels of any shape; or rows of probabilities ``[n, classes, …]``, of which the
            likeliest class is taken.
        classes: Number of classes.

    Example:
        >>> label_values(torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), 3)
        tensor([1., 0.])
    """
    target = target.detach()
    if target.is_floating_point() and target.dim() > 1 and target.shape[1] == classes > 1:
        target = target.argmax(dim=1)
    return spread(target, MOST_LABELS).to(torch.float32, copy=True)


def _bits(tensor: Tensor) -> Tensor:
    """Return samples as rows of int32 or int64 that tell all their values apart.

    Sums over rows keep that type: widening on the way is many times slower.
    """
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    rows = tensor.reshape(tensor.shape[0], -1)
    if not rows.is_floating_point():
        return rows if rows.dtype == torch.int64 else rows.to(torch.int32)
    if rows.dtype == torch.float64:
        # Round numbers end in zeros, and a product carries bits only upward: fold the upper half.
        bits = rows.view(torch.int64)
        return bits ^ ((bits >> 32) & 0xFFFFFFFF)
    return rows.float().view(torch.int32)


def _spread_columns(rows: Tensor, limit: int) -> Tensor:
    count, limit = rows.shape[1], max(1, limit)
    if count <= limit:
        return rows
    stride = -(-count // limit)
    while math.gcd(stride, count) > 1:
        stride += 1
    return rows[:, ::stride]


def _weights(columns: Tensor) -> Tensor:
    """Return one odd pseudo-random weight a column, the same on every device."""
    count = torch.arange(1, columns.shape[1] + 1, device=columns.device)
    return _mixed(count) | 1


def _folded(bits: Tensor) -> Tensor:
    """Copy upper bits to lower ones.

    The lower bits of round numbers are all zero, and then so are those of their multiples.
    """
    if bits.dtype == torch.int64:
        bits = bits ^ (bits >> 32)
    return bits ^ (bits >> 16)


def _mixed(values: Tensor) -> Tensor:
    values = values * _ODD[0]
    values = (values ^ (values >> 32)) * _ODD[1]
    return (values ^ (values >> 29)) * _ODD[0]
