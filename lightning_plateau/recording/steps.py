"""What every optimizer step leaves behind: its loss, the norms of its gradients, and skips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_plateau.core import signal
from lightning_plateau.recording.block import StepBlock
from lightning_plateau.recording.delivery import Delivery
from lightning_plateau.recording.probes.gradients import (
    GradientReader,
    accumulation_type,
    stacked,
    whole,
)
from lightning_plateau.recording.probes.loss import step_loss
from lightning_plateau.recording.watched import Watched

Told = Callable[[NDArray[np.bool_]], None]
"""Receives, of each step that has arrived on the host, whether loss and gradients are finite."""


class Steps:
    """Gathers the steps of a training on its device, and puts them into the store.

    A step costs one fused read of the gradients and one small copy, and never waits for the device.

    Args:
        optimizers: The parameters of each optimizer.
        delivery: Takes what has been gathered.
        capacity: Steps between drains.

    Attributes:
        stepped: The optimizers that have made a step in the batch under way.
    """

    def __init__(self, optimizers: Sequence[Watched], delivery: Delivery, capacity: int) -> None:
        self.stepped: set[int] = set()
        self._optimizers = optimizers
        self._delivery = delivery
        self._capacity = capacity
        self._names = tuple(name for optimizer in optimizers for name in optimizer.names)
        self._readers = [GradientReader(optimizer.parameters) for optimizer in optimizers]
        self._losses: list[Tensor] = []
        self._block: StepBlock | None = None

    def block(self, step: int) -> StepBlock:
        """Return the table of the steps since the last drain; ``step`` is the one under way."""
        if self._block is None:
            # The first step may be one without gradients: the parameters decide, not its norms.
            parameters = [p for optimizer in self._optimizers for p in optimizer.parameters]
            device = parameters[0].device if parameters else torch.device("cpu")
            wide = any(accumulation_type(p) is torch.float64 for p in parameters)
            dtype = torch.float64 if wide else torch.float32
            widths = [len(optimizer.parameters) for optimizer in self._optimizers]
            self._block = StepBlock(self._capacity, widths, device, dtype, step)
        return self._block

    @property
    def full(self) -> bool:
        """Whether there is no room for a step more."""
        return self._block is None or self._block.full

    @property
    def known_finite(self) -> bool:
        """Whether the step under way is finite; True where the host cannot tell without waiting."""
        return self._block is None or self._block.known_finite

    def add_loss(self, loss: Tensor) -> None:
        """Note a tensor that backward starts from."""
        self._losses.append(whole(loss.detach()))

    def forget_losses(self) -> None:
        """Let go of the losses that no step has answered."""
        self._losses.clear()

    def write(
        self,
        index: int,
        step: int,
        accumulated: int | None,
        loss_scale: Tensor | None,
        scale: Tensor | None,
    ) -> Tensor | None:
        """Write norms and loss of an optimizer that is about to step; see ``Recorder``."""
        norms, present = self._readers[index].read()
        block, loss = self.block(step), None
        if self._losses:
            factor = accumulated / len(self._losses) if accumulated else 1.0
            loss = step_loss(self._losses, factor, loss_scale)
            self._losses.clear()
        self.stepped.add(index)
        if loss is not None and scale is None and present is None:
            together = block.write_together(loss, norms)
            if together is not None:
                return together
        compact = stacked(norms) if norms else None
        if compact is not None and scale is not None:
            compact = compact / scale.reshape(())
        block.write_gradients(index, compact, present)
        if loss is not None:
            block.write_loss(index, loss)
        return compact

    def complete(self, loss: Tensor | None, skipped: Tensor | bool) -> None:
        """Add to the step under way the loss of optimizers whose backward was not seen, and skips.

        Args:
            loss: What ``training_step`` returned, if that is known.
            skipped: Whether the step was skipped, as a bool or a 0-d tensor.
        """
        if self._block is None:
            return
        if loss is not None:
            for index in sorted(self.stepped):
                if not self._block.has_loss(index):
                    self._block.write_loss(index, whole(loss.detach()).reshape(()))
        self._block.write_skipped(skipped)

    def close(self) -> None:
        """Go on to the next step."""
        if self._block is not None:
            self._block.close_row()
        self.stepped.clear()

    def send(self, losses: Tensor | None, told: Told) -> None:
        """Send the steps since the last drain to the host.

        Args:
            losses: What their losses are over all ranks; None where there is one rank.
            told: Is called when they have arrived.
        """

        def receive(
            steps: NDArray[Any],
            losses: NDArray[Any],
            seen: NDArray[Any],
            norms: NDArray[Any],
            skipped: NDArray[Any],
        ) -> None:
            total = np.where(seen, losses, 0.0).sum(axis=1)
            known: Any = seen.any(axis=1)
            self._store_losses(steps, losses, seen, total, known)
            broken = np.isnan(norms)
            self._store_norms(steps, norms, broken)
            told(np.isfinite(np.where(known, total, 0.0)) & ~broken.any(axis=1))
            self._delivery.store.append(signal.SKIPPED_STEPS, steps, skipped)

        if self._block is not None and self._block.rows:
            self._block.send(self._delivery.transfer, receive, losses)

    def _store_losses(
        self,
        steps: NDArray[Any],
        losses: NDArray[Any],
        seen: NDArray[Any],
        total: NDArray[Any],
        known: NDArray[Any],
    ) -> None:
        store = self._delivery.store
        store.append(signal.LOSS, steps[known], total[known])
        if losses.shape[1] > 1:
            labels = tuple(str(index) for index in range(losses.shape[1]))
            store.append(signal.LOSS_PER_OPTIMIZER, steps, np.where(seen, losses, np.nan), labels)

    def _store_norms(
        self, steps: NDArray[Any], norms: NDArray[Any], broken: NDArray[np.bool_]
    ) -> None:
        present = norms >= 0
        squares = np.where(present | broken, norms, 0.0) ** 2
        self._delivery.store.append(signal.GRADIENT_NORM, steps, np.sqrt(squares.sum(axis=1)))
        if self._names and self._delivery.wants(signal.GRADIENT_NORMS):
            norms = np.where(present, norms, np.nan)
            self._delivery.store.append(signal.GRADIENT_NORMS, steps, norms, self._names)
