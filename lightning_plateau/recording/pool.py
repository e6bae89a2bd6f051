"""The pool: samples of several small batches, fingerprinted together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_plateau.recording.probes.samples import fingerprints

LARGEST_COPY = 1 << 16
"""Elements of a batch up to which a copy of it waits for others; larger ones are read at once."""
LARGEST_POOL = 1 << 17
"""Elements that wait together: what is worked out of more no longer fits the processor's cache."""


@dataclass(frozen=True)
class Prints:
    """Fingerprints of the samples of one step or several.

    Attributes:
        values: ``[n, 2]`` on the device, see ``fingerprints``.
        steps: The optimizer steps.
        sizes: Samples of each step.
    """

    values: Tensor
    steps: tuple[int, ...]
    sizes: tuple[int, ...]


class Pool:
    """Gathers samples until it is worth taking their fingerprints.

    A fingerprint is a dozen operations, whatever the number of samples; of a small batch they take
    longer than the step. What waits is copied, for the user may change it in place.
    """

    def __init__(self) -> None:
        self._ready: list[Prints] = []
        self._waiting: list[tuple[int, list[Tensor]]] = []
        self._elements = 0

    def add(self, step: int, inputs: Sequence[Tensor]) -> None:
        """Add the samples of a batch: tensors of one sample size, ``[n, …]`` each."""
        elements = sum(one.numel() for one in inputs)
        with torch.no_grad():
            if elements > LARGEST_COPY:
                self._gather()
                self._ready.append(_prints([(step, inputs)]))
                return
            if self._elements + elements > LARGEST_POOL or not self._fits(inputs):
                self._gather()
            self._waiting.append((step, [one.detach().clone() for one in inputs]))
            self._elements += elements

    def _fits(self, inputs: Sequence[Tensor]) -> bool:
        if not self._waiting:
            return True
        first = self._waiting[0][1]
        return len(first) == len(inputs) and all(
            a.shape[1:] == b.shape[1:] and a.dtype is b.dtype and a.device == b.device
            for a, b in zip(first, inputs, strict=True)
        )

    def _gather(self) -> None:
        waiting, self._waiting, self._elements = self._waiting, [], 0
        if waiting:
            self._ready.append(_prints(waiting))

    def take(self) -> Iterator[Prints]:
        """Yield all fingerprints in the order of their steps, and empty the pool."""
        with torch.no_grad():
            self._gather()
        ready, self._ready = self._ready, []
        yield from ready

    def forget(self, step: int) -> None:
        """Let go of the samples of a step that will not end."""
        self._waiting = [one for one in self._waiting if one[0] != step]
        self._ready = [one for one in self._ready if step not in one.steps]


def _prints(batches: Sequence[tuple[int, Sequence[Tensor]]]) -> Prints:
    columns = zip(*(one for _, one in batches), strict=True)
    joined = [torch.cat(one) if len(one) > 1 else one[0] for one in columns]
    steps = tuple(step for step, _ in batches)
    return Prints(fingerprints(joined), steps, tuple(len(one[0]) for _, one in batches))
