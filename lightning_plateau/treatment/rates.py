"""The learning rates of a run by group, as a history names them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lightning_plateau.training.run import Run

_NUMBERS = frozenset({float, int})


class Rates:
    """Reads the learning rates of all groups; where none has changed, they are not named anew.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._raw: list[Any] = []
        self._named: dict[str, float] = {}

    def read(self, *, closely: bool = False) -> dict[str, float]:
        """Return the learning rate of each group by label.

        Args:
            closely: Whether to read rates that are tensors too, which may wait for the device.
        """
        raw = [
            group["lr"]
            for adapter in self._run.adapters
            for group in adapter.optimizer.param_groups
        ]
        # What is attached may let a group go at another pace; a tensor must not be compared.
        if self._run.attachments or not _NUMBERS.issuperset(map(type, raw)):
            self._raw = []
            return dict(self._all(closely=closely))
        if raw != self._raw:
            self._raw, self._named = raw, dict(self._all(closely=closely))
        return self._named

    def _all(self, *, closely: bool) -> Iterator[tuple[str, float]]:
        several = len(self._run.adapters) > 1
        for index, adapter in enumerate(self._run.adapters):
            for place, group in enumerate(adapter.optimizer.param_groups):
                rate = group["lr"]
                if closely or not isinstance(rate, Tensor):
                    label = f"{index}.{place}" if several else f"{place}"
                    yield label, self._run.paced(index, place, float(rate))
