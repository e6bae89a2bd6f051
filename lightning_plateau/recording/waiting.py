"""How long a training waits between its batches."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


class Waiting:
    """Adds up the time from the end of a batch to the start of the next, on the host's clock.

    Intervals that hold something else than the next batch (a validation, the end of an epoch, a
    checkpoint) are left out, and those in which an accelerator still had work to do count as no
    waiting at all: the batch was there in time.

    Args:
        device: The device that is trained on.
        clock: Returns seconds.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._done = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self._waited_s = self._elapsed_s = 0.0
        self._batches = 0

    def batch_starts(self) -> None:
        """Note that a batch has arrived; nothing waits for the device."""
        now = self._clock()
        idle = self._done is None or bool(self._done.query())  # type: ignore[no-untyped-call]
        if self._began_s is not None and self._ended_s is not None:
            self._waited_s += now - self._ended_s if idle else 0.0
            self._elapsed_s += now - self._began_s
            self._batches += 1
        self._began_s, self._ended_s = now, None

    def batch_ends(self) -> None:
        """Note that a batch was trained on, and all was done that is to be done with it."""
        self._ended_s = self._clock()
        if self._done is not None:
            self._done.record()

    def interrupt(self) -> None:
        """Leave the interval under way out: something else takes place in it."""
        self._began_s = None

    def take(self) -> dict[str, float] | None:
        """Return the mean seconds of a batch since the last time; None where none was timed."""
        batches, waited_s, elapsed_s = self._batches, self._waited_s, self._elapsed_s
        self._waited_s = self._elapsed_s = 0.0
        self._batches = 0
        if not batches:
            return None
        return {"waited": waited_s / batches, "elapsed": elapsed_s / batches}
