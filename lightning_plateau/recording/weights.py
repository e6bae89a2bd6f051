"""Where the parameters are, and how far a step moved them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.parameter import is_lazy

from lightning_plateau.core import signal
from lightning_plateau.recording.delivery import Delivery
from lightning_plateau.recording.probes.gradients import stacked, tensor_norms
from lightning_plateau.recording.probes.parameters import (
    sample_elements,
    unit_differences,
    update_ratios,
)
from lightning_plateau.recording.watched import Watched


def record_initial_norms(delivery: Delivery, optimizers: Sequence[Watched]) -> None:
    """Record the norm of each parameter before the first step."""
    named = {
        name: parameter.detach()
        for optimizer in optimizers
        for name, parameter in zip(optimizer.names, optimizer.parameters, strict=True)
        if not is_lazy(parameter)
    }
    if named and delivery.wants(signal.INITIAL_NORMS):
        with torch.no_grad():
            norms = stacked(tensor_norms(list(named.values())))
        delivery.sample(signal.INITIAL_NORMS, 0, tuple(named), norms)


def record_parameters(delivery: Delivery, step: int, optimizers: Sequence[Watched]) -> None:
    """Record norms, updates and differences between units of the parameters after a step."""
    with torch.no_grad():
        for optimizer in optimizers:
            if not optimizer.parameters:
                continue
            labels = tuple(optimizer.names)
            norms = tensor_norms([p.detach() for p in optimizer.parameters])
            delivery.sample(signal.PARAMETER_NORMS, step, labels, stacked(norms))
            if delivery.wants(signal.UNIT_DIFFERENCES):
                differences = unit_differences(optimizer.parameters)
                delivery.sample(signal.UNIT_DIFFERENCES, step, labels, differences)
            if optimizer.before:
                after = sample_elements(optimizer.parameters)
                delivery.sample(
                    signal.UPDATE_RATIOS, step, labels, update_ratios(optimizer.before, after)
                )
                if len(optimizers) == 1 and delivery.wants(signal.UPDATE_DESCENT):
                    descent = optimizer.agreement.descent(optimizer.before, after)
                    if descent is not None:
                        delivery.number(signal.UPDATE_DESCENT, step, descent)
                optimizer.before = []
