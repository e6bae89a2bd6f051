"""Delivery: what was measured on the device, on its way to the series on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_plateau.core.signal import Signal
from lightning_plateau.recording.store import Store
from lightning_plateau.recording.transfer import Transfer


class Delivery:
    """Takes measurements that somebody needs, and puts them into the store when they arrive.

    Args:
        tags: Tags of the signals that somebody needs; None takes all.

    Attributes:
        store: The series on the host.
        transfer: What is under way to it.
    """

    def __init__(self, tags: frozenset[str] | None = None) -> None:
        self.store = Store()
        self.transfer = Transfer()
        self._tags = tags

    def wants(self, *signals: Signal) -> bool:
        """Whether somebody needs one of ``signals``."""
        return self._tags is None or any(s.tag in self._tags for s in signals)

    def sample(self, which: Signal, step: int, labels: tuple[str, ...], values: Tensor) -> None:
        """Take one row of a signal with columns, ``[len(labels)]``, from the device."""
        if self.wants(which):
            self.transfer.add([values], lambda arrays: self.append(which, step, labels, arrays[0]))

    def number(self, which: Signal, step: int, value: Tensor) -> None:
        """Take one value of a scalar signal from the device."""
        self.transfer.add(
            [value.detach().float().mean()],
            lambda arrays: self.store.append_row(which, step, float(arrays[0])),
        )

    def append(self, which: Signal, step: int, labels: Sequence[str], values: NDArray[Any]) -> None:
        """Put one row that is on the host into the store."""
        if self.wants(which):
            self.store.append(which, np.array([step]), values[None, :], labels)
