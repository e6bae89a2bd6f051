"""How far the targets of a regression spread, over batch after batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_plateau.core import signal
from lightning_plateau.recording.store import Store
from lightning_plateau.recording.transfer import Transfer

MOST_OUTPUTS = 1 << 16
"""Numbers of a sample's target that are told apart; of larger ones nothing is kept."""


class Targets:
    """Adds up the targets of batches on the device: count, sum and squares of each output.

    A few batches of a few samples say little of how far targets spread, and what one constant
    answer scores hangs on that.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._origin: Tensor | None = None
        self._sums: Tensor | None = None
        self._news = False

    def add(self, target: Tensor) -> None:
        """Add the targets of a batch, ``[n, …]``; those of another shape are left out."""
        outputs = target[0].numel()
        if target.is_complex() or not 0 < outputs <= MOST_OUTPUTS:
            return
        with torch.no_grad():
            rows = target.detach().reshape(len(target), outputs).float()
            if self._origin is None:  # keeps the squares small where the mean is large
                self._origin = rows.mean(0)
            if rows.shape[1:] != self._origin.shape:
                return
            self._origin = self._origin.to(rows.device)
            rows = rows - self._origin
            sums = torch.stack([rows.sum(0), rows.square().sum(0)])
            self._sums = sums if self._sums is None else self._sums.to(rows.device) + sums
        self._samples += len(target)
        self._news = True

    def send(self, step: int, transfer: Transfer, store: Store) -> None:
        """Send the variance so far, if something was added."""
        if not self._news or self._sums is None or self._samples < 2:
            return
        self._news, samples = False, self._samples
        mean, square = self._sums / samples
        variance = (square - mean.square()).clamp(min=0.0).mean() * (samples / (samples - 1))
        transfer.add(
            [variance],
            lambda arrays: store.append_row(
                signal.TARGETS, step, {"variance": float(arrays[0]), "samples": float(samples)}
            ),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what was added up."""
        if self._sums is None or self._origin is None:
            return {}
        return {"samples": self._samples, "sums": torch.stack([self._origin, *self._sums])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        if state:
            self._samples = state["samples"]
            self._origin, self._sums = state["sums"][0], state["sums"][1:]
