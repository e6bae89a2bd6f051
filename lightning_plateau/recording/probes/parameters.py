"""How far an update moved each parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_plateau.recording.probes.gradients import stacked, tensor_norms
from lightning_plateau.recording.probes.sampling import spread

SAMPLE = 2048


def local(tensor: Tensor) -> Tensor:
    """Return the part of a sharded tensor that lies on this rank, or the tensor itself."""
    part = getattr(tensor, "to_local", None)
    return part() if part is not None else tensor


def sample_elements(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return up to 2,048 evenly spaced elements of each parameter, as copies.

    A sample keeps the memory bounded: at most 8 KB a tensor however large the model.

    Example:
        >>> sample_elements([torch.zeros(3, 4)])[0].shape
        torch.Size([12])
    """
    return [spread(local(parameter.detach()), SAMPLE).clone() for parameter in parameters]


def update_ratios(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """Return ‖after − before‖ / ‖before‖ of each pair, ``[k]``, without waiting for the device.

    A parameter that was zero gives infinity where it moved and 0 where it did not.

    Example:
        >>> update_ratios([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])])
        tensor([0.1000])
    """
    moved = stacked(tensor_norms([new - old for old, new in zip(before, after, strict=True)]))
    size = stacked(tensor_norms(before))
    ratio = moved / size
    return torch.where((moved == 0) & (size == 0), torch.zeros_like(ratio), ratio)
