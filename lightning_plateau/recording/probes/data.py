"""Statistics of the tensors of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_plateau.recording.probes.sampling import dense_values, spread

DATA_STATISTICS = ("mean", "std", "minimum", "maximum", "non_finite", "constant_features")
LARGE = 1 << 20


def data_statistics(values: Tensor) -> Tensor:
    """Return the statistics of one tensor of a batch, ``[6]`` float32, still on its device.

    The columns are ``DATA_STATISTICS``. Beyond 2**20 elements moments and extremes rest on that
    many evenly spaced ones; non-finite values are counted in full. A feature is one position
    of a sample; features are compared across the batch only up to 2**20 elements.

    Args:
        values: Real tensor of any type with at least one element, samples along dimension 0.

    Example:
        >>> data_statistics(torch.tensor([[1.0, 2.0], [1.0, 4.0]]))[5]
        tensor(0.5000)
    """
    values = dense_values(values.detach())
    if not values.numel():  # a sparse tensor that stores nothing is zero
        values = values.new_zeros(1)
    if values.is_complex():
        values = values.abs()
    broken = torch.isfinite(values).logical_not().sum() if values.is_floating_point() else None
    flat = spread(values, LARGE).float()
    lowest, highest = torch.aminmax(flat)
    nothing = torch.full((), float("nan"), device=flat.device)
    constant = nothing
    if values.dim() >= 2 and values.shape[0] > 1 and values.numel() <= LARGE:
        rows = values.reshape(values.shape[0], -1)
        constant = (rows == rows[:1]).all(dim=0).float().mean()
    return torch.stack(
        [
            flat.mean(),
            flat.std(correction=0),
            lowest,
            highest,
            torch.zeros_like(nothing) if broken is None else broken.float(),
            constant,
        ]
    )
