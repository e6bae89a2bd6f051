"""What layers remember beside their parameters, and what normalization layers see of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_plateau.core import signal
from lightning_plateau.recording.delivery import Delivery
from lightning_plateau.recording.draft import Draft
from lightning_plateau.recording.probes.gradients import stacked, tensor_norms
from lightning_plateau.recording.probes.normalization import running_moments
from lightning_plateau.recording.profile import clean_name
from lightning_plateau.recording.structure import Structure


def record_buffers(delivery: Delivery, step: int, structure: Structure) -> None:
    """Record the norms of buffers, and the running statistics of normalization layers."""
    buffers = [
        (clean_name(n), b) for n, b in structure.buffers if b.is_floating_point() and b.numel()
    ]
    if buffers and delivery.wants(signal.BUFFER_NORMS):
        with torch.no_grad():
            norms = stacked(tensor_norms([b for _, b in buffers]))
        delivery.sample(signal.BUFFER_NORMS, step, tuple(n for n, _ in buffers), norms)
    with torch.no_grad():
        _record_running(delivery, step, structure)


def _record_running(delivery: Delivery, step: int, structure: Structure) -> None:
    running = {
        clean_name(name): (mean, variance)
        for name, layer in structure.layers
        if isinstance(mean := getattr(layer, "running_mean", None), Tensor)
        and isinstance(variance := getattr(layer, "running_var", None), Tensor)
    }
    if running and delivery.wants(
        signal.NORMALIZATION_RUNNING_MEAN, signal.NORMALIZATION_RUNNING_VARIANCE
    ):
        labels = tuple(running)
        moments = running_moments(*zip(*running.values(), strict=True))
        delivery.sample(signal.NORMALIZATION_RUNNING_MEAN, step, labels, moments[:, 0])
        delivery.sample(signal.NORMALIZATION_RUNNING_VARIANCE, step, labels, moments[:, 1])


def record_batch_moments(delivery: Delivery, draft: Draft) -> None:
    """Record what normalization layers saw of the batch."""
    if not draft.normalizations:
        return
    labels = tuple(clean_name(name) for name in draft.normalizations)
    moments = stacked([moments for moments, _ in draft.normalizations.values()])
    delivery.sample(signal.NORMALIZATION_BATCH_MEAN, draft.step, labels, moments[:, 0])
    delivery.sample(signal.NORMALIZATION_BATCH_VARIANCE, draft.step, labels, moments[:, 1])
    values = {
        name: float(n) for name, (_, n) in zip(labels, draft.normalizations.values(), strict=True)
    }
    if delivery.wants(signal.NORMALIZATION_VALUES):
        delivery.store.append_row(signal.NORMALIZATION_VALUES, draft.step, values)
