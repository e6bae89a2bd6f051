"""How gradients were cared for: cleared after each step, and clipped."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from lightning_plateau.core import signal
from lightning_plateau.recording.delivery import Delivery
from lightning_plateau.recording.probes.gradients import stacked, tensor_norms
from lightning_plateau.recording.watched import Watched


def record_care(
    delivery: Delivery, step: int, optimizers: Sequence[Watched], stepped: Collection[int]
) -> None:
    """Record what earlier steps left behind, and by how much clipping shortened gradients."""
    left = {str(i): optimizers[i].leftovers.norm for i in sorted(stepped)}
    known = {label: norm for label, norm in left.items() if norm is not None}
    if known and delivery.wants(signal.GRADIENTS_LEFT_OVER):
        norms = stacked(list(known.values()))
        delivery.sample(signal.GRADIENTS_LEFT_OVER, step, tuple(known), norms)
    [optimizer, *others] = optimizers or [Watched([], [])]
    before, optimizer.norm = optimizer.norm, None
    if before is None or others or not delivery.wants(signal.CLIP_COEFFICIENT):
        return
    with torch.no_grad():
        after = tensor_norms([p.grad for p in optimizer.parameters if p.grad is not None])
        if after:
            coefficient = torch.linalg.vector_norm(stacked(after)) / before
            delivery.number(signal.CLIP_COEFFICIENT, step, coefficient)
