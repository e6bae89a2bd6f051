"""What operations made, measured: small tensors together, large ones at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_plateau.recording.probes.activations import (
    completed,
    output_statistics,
    stacked_statistics,
)
from lightning_plateau.recording.probes.gradients import stacked

SMALL = 1 << 13
"""Elements of an output up to which a copy of it waits for others of its shape."""
MOST_WAITING = 1 << 18
"""Elements that wait: one megabyte."""
Statistics = dict[str, float]


@dataclass(frozen=True)
class Kind:
    """What outputs that are measured together have in common."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    rectified: bool
    unit_dim: int


class Outputs:
    """The statistics of the outputs of one forward pass, still on their device.

    Of a small output statistics take as long as a layer does, operation by operation. So a copy of
    it waits (for the user may change it in place), and all of one shape are measured together.
    """

    def __init__(self) -> None:
        self._waiting: dict[Kind, list[tuple[int, Tensor]]] = {}
        self._elements = 0
        self._measured: list[tuple[tuple[int, ...], Mapping[str, Tensor]]] = []

    def add(
        self,
        index: int,
        output: Tensor,
        *,
        rectified: bool,
        squashed_input: Tensor | None,
        unit_dim: int,
    ) -> None:
        """Take the output of the operation ``index``; see ``output_statistics``."""
        output = output.detach()
        if squashed_input is not None or output.numel() > SMALL or type(output) is not Tensor:
            found = output_statistics(
                output, rectified=rectified, squashed_input=squashed_input, unit_dim=unit_dim
            )
            self._measured.append(((index,), found))
            return
        kind = Kind(tuple(output.shape), output.dtype, output.device, rectified, unit_dim)
        self._waiting.setdefault(kind, []).append((index, output.clone()))
        self._elements += output.numel()
        if self._elements > MOST_WAITING:
            self._measure()

    def _measure(self) -> None:
        waiting, self._waiting, self._elements = self._waiting, {}, 0
        for kind, members in waiting.items():
            together = torch.stack([output for _, output in members])
            found = stacked_statistics(together, rectified=kind.rectified, unit_dim=kind.unit_dim)
            self._measured.append((tuple(index for index, _ in members), found))

    def tensors(self) -> list[Tensor]:
        """Return the statistics on their device, in the order in which ``read`` takes them."""
        self._measure()
        return [value for _, found in self._measured for value in found.values()]

    def read(self, values: Iterator[float]) -> dict[int, Statistics]:
        """Return the statistics of each operation, given the values of ``tensors()``."""
        told: dict[int, Statistics] = {}
        for indices, found in self._measured:
            rows: dict[int, Statistics] = {index: {} for index in indices}
            for name in found:
                for index in indices:
                    rows[index][name] = next(values)
            told |= {index: completed(row) for index, row in rows.items()}
        return told


def joined(values: list[Tensor]) -> list[Tensor]:
    """Return tensors of numbers as a single one, flat; nothing for none."""
    if not values:
        return []
    wide = any(value.dtype is torch.float64 for value in values)
    dtype, device = torch.float64 if wide else torch.float32, values[0].device
    if all(value.dim() == 0 for value in values):
        return [stacked([value.to(dtype) for value in values])]
    return [torch.cat([value.reshape(-1).to(device, dtype) for value in values])]
