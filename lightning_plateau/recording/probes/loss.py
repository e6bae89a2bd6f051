"""The loss of an optimizer step, from the losses that backward started from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def step_loss(losses: Sequence[Tensor], factor: float = 1.0, scale: Tensor | None = None) -> Tensor:
    """Return the loss of one optimizer step as a 0-d tensor, without waiting for the device.

    Args:
        losses: The tensors that backward started from, each counts with its mean.
        factor: What their sum is multiplied by, to undo the division by accumulated batches.
        scale: Scale of a gradient scaler, a tensor with one element; None where there is none.

    Example:
        >>> float(step_loss([torch.tensor(1.0), torch.tensor(2.0)], factor=0.5))
        1.5
    """
    detached = [loss.detach() if loss.dim() == 0 else loss.detach().mean() for loss in losses]
    total = detached[0] if len(detached) == 1 else torch.stack(detached).sum()
    if factor != 1.0:
        total = total * factor
    return total if scale is None else total / scale.reshape(())
