"""How far an update moved each parameter, and how far its units differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_plateau.recording.probes.gradients import stacked, tensor_norms
from lightning_plateau.recording.probes.sampling import spread

SAMPLE = 2048
UNITS = 16


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
    pieces = [spread(local(parameter.detach()), SAMPLE) for parameter in parameters]
    if len({(piece.dtype, piece.device) for piece in pieces}) != 1:
        return [piece.clone() for piece in pieces]
    # One copy of all: a copy of each takes longer than the elements do.
    return list(torch.split(torch.cat(pieces), [piece.numel() for piece in pieces]))


def update_ratios(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """Return ‖after − before‖ / ‖before‖ of each pair, ``[k]``, without waiting for the device.

    A parameter that was zero gives infinity where it moved and 0 where it did not.

    Example:
        >>> update_ratios([torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])])
        tensor([0.1000])
    """
    moved = stacked(tensor_norms(torch._foreach_sub(list(after), list(before))))
    size = stacked(tensor_norms(before))
    ratio = moved / size
    return torch.where((moved == 0) & (size == 0), torch.zeros_like(ratio), ratio)


def unit_differences(parameters: Sequence[Tensor]) -> Tensor:
    """Return how far the units of each parameter differ, ``[k]`` float32, without waiting.

    A unit is a slice along dimension 0: a row of a linear layer, a filter of a convolution. Up to
    16 of them, evenly spaced, are compared with the first one at up to 2,048 places. The largest
    difference is given over the largest magnitude; 0 where all are zero. NaN where there is no
    second unit, or no dimension that a unit extends in.

    Example:
        >>> same, other = torch.ones(3, 4), torch.tensor([[1.0, 2.0], [1.0, 4.0]])
        >>> unit_differences([same, other, torch.zeros(3)])
        tensor([0.0000, 0.5000,    nan])
    """
    nothing = torch.full((), float("nan"), device=parameters[0].device)
    pairs = [_units_apart(local(parameter.detach()), nothing) for parameter in parameters]
    apart, size = stacked([apart for apart, _ in pairs]), stacked([size for _, size in pairs])
    return torch.where(apart == 0, torch.zeros_like(apart), apart / size)


def _units_apart(parameter: Tensor, nothing: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest difference between units and the largest magnitude."""
    if parameter.dim() < 2 or len(parameter) < 2 or parameter.numel() == 0:
        return nothing, nothing
    every = max(1, len(parameter) // UNITS)
    units = parameter[::every].flatten(1)
    units = units[:, :: -(-units.shape[1] // SAMPLE)]
    units = units.abs() if units.is_complex() else units
    return (units - units[:1]).abs().amax().float(), units.abs().amax().float()
