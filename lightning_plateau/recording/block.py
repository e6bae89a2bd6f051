"""The device's rows of what is recorded on each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_plateau.core.finite import all_finite
from lightning_plateau.recording.transfer import Transfer

ABSENT = -1.0
"""Stands for a gradient that is None: a norm is never negative."""

MOST_PATTERNS = 64
"""Sets of present gradients whose places are kept on the device."""

Rows = Callable[[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]], None]
"""Receives steps, losses, which losses were seen, gradient norms and skipped flags."""


class StepBlock:
    """A preallocated table, one row a step: losses, gradient norms and the skipped flag.

    Args:
        capacity: Steps between drains.
        widths: Number of parameters of each optimizer.
        device: Where the gradients lie.
        dtype: Type of the table: float32, or float64 for models of that type.
        first_step: Step of the first row.
    """

    def __init__(
        self,
        capacity: int,
        widths: Sequence[int],
        device: torch.device,
        dtype: torch.dtype,
        first_step: int,
    ) -> None:
        self.rows = 0
        self._first_step = first_step
        self._capacity = capacity
        self._optimizers = len(widths)
        self._offsets = [self._optimizers + sum(widths[:i]) for i in range(self._optimizers)]
        self._widths = list(widths)
        columns = self._optimizers + sum(widths) + 1
        self._table = torch.full((capacity, columns), ABSENT, device=device, dtype=dtype)
        # Of a single optimizer, the loss and the norms lie side by side.
        single = self._optimizers == 1
        self._heads = self._table[:, :-1].unbind(0) if single else ()
        self._norms = self._table[:, 1:-1].unbind(0) if single else ()
        self._indices: dict[tuple[int, ...], Tensor] = {}
        self._seen = np.zeros((capacity, self._optimizers), dtype=bool)
        # On the CPU the host reads the table's memory itself: no operation, nothing to wait for.
        self._memory = list(self._table.numpy()) if device.type == "cpu" else None

    @property
    def full(self) -> bool:
        """Whether no further step fits."""
        return self.rows >= self._capacity

    @property
    def known_finite(self) -> bool:
        """Whether the row under way is finite; True where the host cannot tell without waiting."""
        return self._memory is None or all_finite(self._memory[self.rows])

    def has_loss(self, optimizer: int) -> bool:
        """Whether the row under way has a loss of that optimizer."""
        return bool(self._seen[self.rows, optimizer])

    def write_together(self, loss: Tensor, norms: Sequence[Tensor]) -> Tensor | None:
        """Set the loss and the norms of a single optimizer with all its gradients, in one copy.

        Returns:
            The norms in the row under way, which the next drain clears; None, and nothing is set,
            where they do not fit together.
        """
        fits = bool(self._heads) and len(norms) == self._widths[0]
        if not (fits and norms and loss.dtype is self._table.dtype):
            return None
        try:
            torch.stack((loss, *norms), out=self._heads[self.rows])
        except RuntimeError:  # they lie on several devices
            return None
        self._seen[self.rows] = True
        return self._norms[self.rows]

    def write_loss(self, optimizer: int, loss: Tensor) -> None:
        """Set the loss of one optimizer in the row under way."""
        self._table[self.rows, optimizer].copy_(loss, non_blocking=True)
        self._seen[self.rows, optimizer] = True

    def write_gradients(
        self, optimizer: int, norms: Tensor | None, present: Sequence[int] | None = None
    ) -> None:
        """Set the gradient norms of one optimizer: all, or those at the positions ``present``."""
        if norms is None:
            return
        start, width = self._offsets[optimizer], self._widths[optimizer]
        columns = self._table[self.rows, start : start + width]
        if present is None:
            columns.copy_(norms, non_blocking=True)
        else:
            columns.index_copy_(0, self._places(tuple(present)), norms.to(columns))

    def _places(self, present: tuple[int, ...]) -> Tensor:
        """Return ``present`` on the device; the same few recur, and none is waited for."""
        places = self._indices.get(present)
        if places is None:
            device = self._table.device
            host = torch.tensor(present, pin_memory=device.type == "cuda")
            if len(self._indices) >= MOST_PATTERNS:
                self._indices.clear()
            places = self._indices[present] = host.to(device, non_blocking=True)
        return places

    def write_skipped(self, skipped: Tensor | bool) -> None:
        """Set whether the step under way was skipped."""
        if isinstance(skipped, Tensor):
            self._table[self.rows, -1].copy_(skipped, non_blocking=True)
        elif skipped:
            self._table[self.rows, -1].fill_(1.0)

    @property
    def losses(self) -> Tensor:
        """The losses so far, ``[capacity, optimizers]``; what is not yet known is ``ABSENT``."""
        return self._table[:, : self._optimizers]

    def close_row(self) -> None:
        """Go on to the next row."""
        self.rows += 1

    def send(self, transfer: Transfer, receive: Rows, losses: Tensor | None = None) -> None:
        """Send the rows so far and start afresh; ``losses`` are put in place of those written."""
        rows, optimizers = self.rows, self._optimizers
        table = self._table[:rows].clone()
        if losses is not None:
            table[:, :optimizers] = losses[:rows]
        steps = np.arange(self._first_step, self._first_step + rows)
        seen = self._seen[:rows].copy()

        def deliver(arrays: Sequence[NDArray[Any]]) -> None:
            values = arrays[0].astype(np.float64)
            receive(
                steps,
                values[:, :optimizers],
                seen,
                values[:, optimizers:-1],
                np.maximum(values[:, -1], 0.0),
            )

        transfer.add([table], deliver)
        self._first_step += rows
        self.rows = 0
        self._table.fill_(ABSENT)
        self._seen[:] = False
