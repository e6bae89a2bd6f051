"""Which of the values of a validation is its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

_WORDS = ("val", "valid", "validation", "dev", "eval")


def loss_name(names: Mapping[str, Any], monitor: str | None = None) -> str | None:
    """Return the logged metric that is the validation loss; None where none is.

    The user's monitor wins where it is a loss; else the shortest name that says loss and
    validation.

    Example:
        >>> loss_name({"train_loss": 1, "val_loss": 2, "val_loss/dataloader_idx_1": 3})
        'val_loss'
    """
    candidates = [
        name for name in names if "loss" in name.lower() and any(w in name.lower() for w in _WORDS)
    ]
    if monitor in candidates:
        return monitor
    return min(candidates, key=len, default=None)


class ValidationLoss:
    """The mean loss of one validation, from what ``validation_step`` returns.

    It serves runs that log no validation loss. The mean is weighted by batch size.
    """

    def __init__(self) -> None:
        self._mean = MeanMetric(nan_strategy="ignore", sync_on_compute=False)

    def reset(self) -> None:
        """Begin a validation."""
        self._mean.reset()

    def update(self, outputs: Any, batch_size: int) -> None:
        """Add what ``validation_step`` returned: a tensor, a mapping with ``loss``, or None."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point():
            value = loss.detach().float().reshape(())
            if self._mean.device != value.device:
                self._mean = self._mean.to(value.device)
            self._mean.update(value, torch.full_like(value, batch_size))

    def compute(self) -> float | None:
        """Return the mean; None where no loss was returned."""
        return float(self._mean.compute()) if self._mean.update_called else None
