"""Whether the replicas of data-parallel training still hold the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_plateau.recording.probes.gradients import stacked, tensor_norms

EVERY_N_STEPS = 500
Largest = Callable[[Tensor], Tensor]


class Replicas:
    """Compares a checksum of each parameter over the ranks, at first and about every 500 steps.

    One small all-reduce: the largest norm and the largest negated one are asked for together.
    Buffers are left out, for each rank keeps running statistics of its own.

    Args:
        every_n_steps: Optimizer steps between comparisons, at least.
    """

    def __init__(self, every_n_steps: int = EVERY_N_STEPS) -> None:
        self._every_n_steps = every_n_steps
        self._next = 0

    def due(self, clock: int) -> bool:
        """Whether to compare at step ``clock``; every rank that asks alike is answered alike."""
        return clock >= self._next

    def compared(self, clock: int) -> None:
        """Note that they were compared at step ``clock``."""
        self._next = clock + self._every_n_steps


def replica_differences(parameters: Sequence[Tensor], largest: Largest) -> Tensor:
    """Return by how much the norm of each parameter differs between the ranks, ``[k]``.

    The difference is relative to the largest norm; 0 where all are zero. Infinity where the norm is
    finite on some ranks only, NaN where it is on none. To be called on every rank.

    Args:
        parameters: The parameters, in the same order on every rank.
        largest: Returns the elementwise maximum of a tensor over the ranks.

    Example:
        >>> alone = lambda norms: norms
        >>> replica_differences([torch.tensor([3.0, 4.0]), torch.zeros(2)], alone).tolist()
        [0.0, 0.0]
    """
    with torch.no_grad():
        norms = stacked(tensor_norms([parameter.detach() for parameter in parameters]))
        # A maximum of numbers one of which is NaN is not defined alike everywhere.
        norms = torch.nan_to_num(norms, nan=float("inf"))
        most, least = largest(torch.cat([norms, -norms])).chunk(2)
        apart = most + least
        relative = torch.where(apart == 0, torch.zeros_like(apart), apart / most)
        return torch.where(
            torch.isinf(most) & torch.isfinite(least), torch.full_like(most, torch.inf), relative
        )
