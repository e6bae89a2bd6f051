"""Bringing recorded tensors to the host without waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

Deliver = Callable[[Sequence[NDArray[Any]]], None]


@dataclass
class _Shipment:
    host: Tensor
    sizes: list[torch.Size]
    parcels: list[tuple[int, Deliver]]
    arrived: torch.cuda.Event | None


class Transfer:
    """Sends tensors to the host in one piece, and delivers them in order.

    On the CPU a shipment is delivered at once. On CUDA it travels through pinned memory while the
    training goes on, and is delivered when the next one is sent, by which time it has arrived.
    """

    def __init__(self) -> None:
        self._parcels: list[tuple[list[Tensor], Deliver]] = []
        self._under_way: list[_Shipment] = []

    def add(self, tensors: Sequence[Tensor], deliver: Deliver) -> None:
        """Put ``tensors`` into the next shipment; ``deliver`` receives their values as arrays."""
        self._parcels.append((list(tensors), deliver))

    def send(self, *, wait: bool = False) -> None:
        """Send what was added; deliver what was sent before, and with ``wait`` this too."""
        earlier = self._under_way
        parcels, self._parcels = self._parcels, []
        tensors = [tensor for group, _ in parcels for tensor in group]
        self._under_way = [_pack(tensors, [(len(group), deliver) for group, deliver in parcels])]
        for shipment in earlier:
            _unpack(shipment)
        if wait or self._under_way[0].arrived is None:
            _unpack(self._under_way.pop())


def _pack(tensors: list[Tensor], parcels: list[tuple[int, Deliver]]) -> _Shipment:
    sizes = [tensor.shape for tensor in tensors]
    device = next((t.device for t in tensors if t.device.type == "cuda"), torch.device("cpu"))
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    dtype = torch.float64 if wide else torch.float32
    pieces = [tensor.detach().reshape(-1).to(device=device, dtype=dtype) for tensor in tensors]
    flat = torch.cat(pieces) if pieces else torch.empty(0)
    if flat.device.type != "cuda":
        return _Shipment(flat, sizes, parcels, None)
    host = torch.empty(flat.shape, dtype=dtype, pin_memory=True)
    host.copy_(flat, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return _Shipment(host, sizes, parcels, arrived)


def _unpack(shipment: _Shipment) -> None:
    if shipment.arrived is not None:
        shipment.arrived.synchronize()
    counts = [size.numel() for size in shipment.sizes]
    arrays = [
        piece.reshape(size).numpy().copy()
        for piece, size in zip(
            torch.split(shipment.host, counts) if counts else (), shipment.sizes, strict=True
        )
    ]
    for count, deliver in shipment.parcels:
        deliver(arrays[:count])
        arrays = arrays[count:]
