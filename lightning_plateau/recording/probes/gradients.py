"""Norms of gradients, one read of each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from lightning_plateau.recording.probes.sampling import dense_values

_LAYOUT = attrgetter("layout")
_KIND = attrgetter("__class__", "device", "dtype", "layout")
_PLAIN = frozenset({Tensor, nn.Parameter})
_SINGLE = frozenset({torch.float32, torch.float16, torch.bfloat16})
"""Types whose norms are float32."""


def accumulation_type(tensor: Tensor) -> torch.dtype:
    """Return the type to sum in: half precision overflows at 65,504 and would look non-finite."""
    return torch.float64 if tensor.dtype in (torch.float64, torch.complex128) else torch.float32


def tensor_norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the L2 norm of each tensor as 0-d tensors, without waiting for the device.

    Tensors of one device and type are read by a single fused call; sparse tensors are coalesced
    first (the norm of uncoalesced values is wrong); sharded tensors give the norm of the whole.

    Args:
        tensors: Any number of tensors of any shape, type and device.

    Returns:
        One 0-d float32 tensor each (float64 for float64 and complex128).

    Example:
        >>> [float(norm) for norm in tensor_norms([torch.tensor([3.0, 4.0]), torch.zeros(0)])]
        [5.0, 0.0]
    """
    if not tensors:
        return []
    if _alike(tensors):
        try:
            return _fused_norms(tensors, _norm_type(tensors[0]))
        except RuntimeError:  # torch refuses what one call cannot read, whatever it looks like
            pass
    return _sorted_norms(tensors)


class GradientReader:
    """Reads the norms of the gradients of some parameters, step by step.

    What they are is looked up once, at the first step: lazy layers have no parameters before.

    Args:
        parameters: The parameters of one optimizer.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._alike: bool | None = None

    def read(self) -> tuple[Sequence[Tensor], Sequence[int] | None]:
        """Return the norms of the gradients that are there, and of which parameters they are.

        Returns:
            One 0-d tensor each, and their positions; None for these where no gradient is missing.
        """
        if self._alike is None:
            self._alike = bool(self._parameters) and _alike(self._parameters)
        gradients = [parameter.grad for parameter in self._parameters]
        if self._alike and _PLAIN.issuperset(map(type, gradients)):
            try:
                return _fused_norms(gradients, self._dtype), None
            except RuntimeError:  # of a sparse layer the gradient is sparse, the weight is not
                self._alike = False
        norms = tensor_norms([gradient for gradient in gradients if gradient is not None])
        if len(norms) == len(gradients):
            return norms, None
        return norms, [place for place, one in enumerate(gradients) if one is not None]

    @cached_property
    def _dtype(self) -> torch.dtype:
        return _norm_type(self._parameters[0])


def _sorted_norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the norms of tensors of several kinds, by one call a kind."""
    buckets: dict[object, list[int]] = {}
    for index, tensor in enumerate(tensors):
        mesh = getattr(tensor, "device_mesh", None)  # a DTensor; plain tensors have none
        placements = getattr(tensor, "placements", None)
        kind = (
            tensor.device,
            tensor.dtype,
            type(tensor),
            tensor.layout,
            str(mesh),
            str(placements),
        )
        buckets.setdefault(kind, []).append(index)
    norms: dict[int, Tensor] = {}
    for indices in buckets.values():
        members = [dense_values(tensors[index]) for index in indices]
        norms.update(zip(indices, _bucket_norms(members), strict=True))
    return [norms[index] for index in range(len(tensors))]


def _alike(tensors: Sequence[Tensor]) -> bool:
    """Whether one fused call is to be tried: they are plain, dense, and of one device and type.

    On the CPU a call reads them one by one: there it may read several types, all into float32.
    """
    first = tensors[0]
    if type(first) not in _PLAIN or first.layout is not torch.strided:
        return False
    if first.is_cpu and first.dtype in _SINGLE:
        return len(set(map(_LAYOUT, tensors))) == 1
    return len(set(map(_KIND, tensors))) == 1


def stacked(values: Sequence[Tensor]) -> Tensor:
    """Return tensors of one shape as one tensor on the device of the first.

    Parameters that are spread over several devices have their norms there too.
    """
    try:
        return torch.stack(tuple(values))
    except RuntimeError:  # they lie on several devices
        device = values[0].device
        return torch.stack([value.to(device, non_blocking=True) for value in values])


def _fused_norms(tensors: Sequence[Any], dtype: torch.dtype) -> list[Tensor]:
    return list(torch._foreach_norm(list(tensors), 2, dtype=dtype))


def _bucket_norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    first = tensors[0]
    if not (first.is_floating_point() or first.is_complex()):  # quantized parameters
        tensors = [tensor.float() for tensor in tensors]
    if _is_spread(first):
        return _norms_of_shards(tensors)
    norms = _fused_norms(tensors, _norm_type(first))
    if type(norms[0]) is not Tensor:
        norms = [whole(norm) for norm in norms]
    return norms


def _is_spread(tensor: Tensor) -> bool:
    """Whether each rank holds a part of it: norms of parts add up to that of the whole."""
    placements: Any = getattr(tensor, "placements", None)
    return placements is not None and not any(part.is_partial() for part in placements)


def _norms_of_shards(tensors: Sequence[Any]) -> list[Tensor]:
    """Return the norms of the whole tensors, by one collective for all of them, not one each."""
    mesh, placements = tensors[0].device_mesh, tensors[0].placements
    parts = stacked(_bucket_norms([tensor.to_local() for tensor in tensors])).abs()
    squares = parts.double().square()
    for dimension, placement in enumerate(placements):
        if placement.is_shard():
            torch.distributed.all_reduce(squares, group=mesh.get_group(dimension))
    return list(squares.sqrt().to(parts.dtype).unbind())


def _norm_type(tensor: Tensor) -> torch.dtype:
    if tensor.is_complex():
        return tensor.dtype
    return accumulation_type(tensor)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that is spread over the ranks in one piece, or the tensor itself.

    Where each rank holds an addend every rank must ask.
    """
    gather = getattr(tensor, "full_tensor", None)
    return gather() if gather is not None else tensor
