"""What gradients are multiplied by, from their norms and the settings of the guard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_plateau.core.history import Floats

if TYPE_CHECKING:
    from lightning_plateau.training.guard import GuardSettings

ROUNDING = 1e-6
"""Share of the norm of all gradients below which one is made of rounding errors."""


def host_factors(
    settings: GuardSettings, norms: Floats, groups: Sequence[int]
) -> float | list[float] | None:
    """Return what gradients are multiplied by: one number, one for each, or None for nothing.

    Args:
        settings: The settings of the guard.
        norms: Their finite norms, ``[k]``.
        groups: The parameter group of each, ``[k]``.
    """
    total = float(np.sqrt(np.square(norms).sum()))
    if settings.normalize == "all":
        return settings.normal_norm / total if total > 0 else None
    if settings.normalize == "layer":
        part = settings.normal_norm / math.sqrt(len(norms))
        return [part / float(norm) if norm > ROUNDING * total else 1.0 for norm in norms]
    limit = settings.clip_norm
    if limit is None:
        return None
    if not settings.clip_by_group:
        return limit / total if total > limit else None
    limits, totals = _by_group(limit, groups), np.zeros(max(groups) + 1)
    np.add.at(totals, list(groups), np.square(norms))
    scales = [
        min(1.0, part / max(part, math.sqrt(s))) for part, s in zip(limits, totals, strict=True)
    ]
    return [scales[group] for group in groups]


def device_factors(settings: GuardSettings, norms: Tensor, groups: Sequence[int]) -> Tensor | None:
    """Return the same as a tensor on the device of ``norms``, 0-d or ``[k]``; nothing waits."""
    total = torch.linalg.vector_norm(norms)
    if settings.normalize == "all":
        return torch.where(total > 0, settings.normal_norm / total, 1.0)
    if settings.normalize == "layer":
        part = settings.normal_norm / math.sqrt(len(norms))
        return torch.where(norms > ROUNDING * total, part / norms, 1.0)
    limit = settings.clip_norm
    if limit is None:
        return None
    if not settings.clip_by_group:
        clipped: Tensor = limit / total.clamp_min(limit)
        return clipped
    limits: Any = torch.tensor(_by_group(limit, groups), dtype=norms.dtype).to(
        norms.device, non_blocking=True
    )
    place = torch.tensor(list(groups)).to(norms.device, non_blocking=True)
    totals = torch.zeros_like(limits).index_add(0, place, norms.square()).sqrt()
    scales: Tensor = limits / torch.maximum(limits, totals)
    return scales[place]


def _by_group(limit: float, groups: Sequence[int]) -> list[float]:
    """Return the part of ``limit`` that each group has, by the root of its share of gradients."""
    counts = [groups.count(place) for place in range(max(groups) + 1)]
    return [limit * math.sqrt(max(1, count) / len(groups)) for count in counts]
