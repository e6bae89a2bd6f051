"""How often a snapshot of a run is taken."""

from __future__ import annotations

from itertools import filterfalse

from torch import nn
from torch.nn.parameter import is_lazy

from lightning_plateau.training.run import Snapshots
from lightning_plateau.treatment.trial import LEAST_STEPS

SMALL = 10_000_000
"""Parameters up to which a snapshot costs next to nothing."""
SNAPSHOTS = 8
"""Snapshots of a short run."""


def snapshot_every(module: nn.Module, planned_steps: int | None) -> int:
    """Return the optimizer steps between two snapshots: a short run of a small network gets eight.

    Those of a large one take their time, and are taken more rarely.

    Example:
        >>> [snapshot_every(nn.Linear(3, 3), steps) for steps in (100, 800, 100_000, None)]
        [20, 100, 500, 500]
    """
    usual = Snapshots.every_n_steps
    if planned_steps is None or _elements(module) > SMALL:
        return usual
    return min(usual, max(LEAST_STEPS, planned_steps // SNAPSHOTS))


def _elements(module: nn.Module) -> int:
    """Return how many numbers a module has; lazy layers that have no shape yet count for none."""
    return sum(p.numel() for p in filterfalse(is_lazy, module.parameters()))
