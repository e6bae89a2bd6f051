"""Batch and running statistics of normalization layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_plateau.recording.probes.gradients import stacked


def batch_moments(values: Tensor) -> Tensor:
    """Return what a normalization layer sees of a batch, ``[2]`` float32, still on its device.

    The root mean square over channels of the channel means, and the mean of the channel variances.

    Args:
        values: Input of the layer, ``[N, C, *]``.

    Example:
        >>> batch_moments(torch.tensor([[1.0], [3.0]]))
        tensor([2., 1.])
    """
    values = values.detach().float()
    other = [d for d in range(values.dim()) if d != 1]
    mean = values.mean(dim=other, keepdim=True)
    # Two plain reads: `var_mean` over several dimensions takes ten times as long on the CPU.
    variance = (values - mean).square_().mean()
    return torch.stack([mean.square().mean().sqrt(), variance])


def running_moments(means: Sequence[Tensor], variances: Sequence[Tensor]) -> Tensor:
    """Return the same two numbers of the running statistics of layers, ``[k, 2]`` float32.

    Args:
        means: Running mean of each layer, ``[C]``.
        variances: Running variance of each.

    Example:
        >>> running_moments([torch.zeros(4)], [torch.ones(4)])
        tensor([[0., 1.]])
    """
    mean = [mean.detach().float().square().mean().sqrt() for mean in means]
    variance = [variance.detach().float().mean() for variance in variances]
    return torch.stack([stacked(mean), stacked(variance)], dim=1)
