"""Which of the values of a validation is its loss."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_VALIDATION = frozenset({"val", "valid", "validation", "dev", "eval", "evaluation"})
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")


def loss_name(names: Mapping[str, Any], monitor: str | None = None) -> str | None:
    """Return the logged metric that is the validation loss; None where none is.

    The user's monitor wins where it is a loss; else the shortest name that says loss and
    validation.

    Example:
        >>> loss_name({"train_loss": 1, "val_loss": 2, "val_loss/dataloader_idx_1": 3})
        'val_loss'
    """
    candidates = [name for name in names if "loss" in name.lower() and _is_of_validation(name)]
    if monitor in candidates:
        return monitor
    return min(candidates, key=len, default=None)


def _is_of_validation(name: str) -> bool:
    # Whole words: "value_loss" is the critic's, "interval_loss" is nobody's validation.
    return not _VALIDATION.isdisjoint(word.lower() for word in _WORD.findall(name))


class ValidationLoss:
    """The mean loss of one validation, from what ``validation_step`` returns.

    It serves runs that log no validation loss. The mean is weighted by batch size; it is not
    finite where one of the losses is not. Updates never wait for the device.

    Example:
        >>> import torch
        >>> loss = ValidationLoss()
        >>> loss.update(torch.tensor(1.0), 30)
        >>> loss.update({"loss": torch.tensor(4.0)}, 10)
        >>> loss.compute()
        1.75
    """

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._samples = 0

    def reset(self) -> None:
        """Begin a validation."""
        self._total, self._samples = None, 0

    def update(self, outputs: Any, batch_size: int) -> None:
        """Add what ``validation_step`` returned: a tensor, a mapping with ``loss``, or None."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point():
            weighted = loss.detach().float().reshape(()) * batch_size
            self._total = weighted if self._total is None else self._total + weighted
            self._samples += batch_size

    def compute(self) -> float | None:
        """Return the mean; None where no loss was returned."""
        return float(self._total) / self._samples if self._total is not None else None
