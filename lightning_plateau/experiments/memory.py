"""Whether an accelerator has room for a copy of the training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_plateau.experiments.sandbox import InconclusiveError


def insist_on_room(module: nn.Module, optimizers: Iterable[Any]) -> None:
    """Refuse where a copy would crowd out the training.

    A copy takes what parameters, buffers and the optimizer's state take, and its steps what those
    of the training take at their peak. It could be tried and fail, but then the training's own
    memory would lie in pieces.

    Raises:
        InconclusiveError: If the accelerator has less left.
    """
    held = [*module.parameters(), *module.buffers()]
    if not any(tensor.is_cuda for tensor in held):
        return
    held += [
        value
        for optimizer in optimizers
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]
    for device in {tensor.device for tensor in held if tensor.is_cuda}:
        size = sum(t.numel() * t.element_size() for t in held if t.device == device)
        peak = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free, _ = torch.cuda.mem_get_info(device)
        needed, left = 2 * size + peak, free + cached
        if needed > left:
            raise InconclusiveError(
                f"a copy needs {needed / 2**30:.1f} GiB on {device}, {left / 2**30:.1f} are free"
            )


def give_back() -> None:
    """Return memory that is no longer used to the accelerator."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
