"""Where is the first value born that is not finite?"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from lightning_plateau.core.origin import first_non_finite
from lightning_plateau.core.signal import EXPERIMENT_REPLAY_BATCH, Signal
from lightning_plateau.core.tape import Tape
from lightning_plateau.experiments.experiment import Bench, Experiment, Row
from lightning_plateau.experiments.sandbox import InconclusiveError, Sandbox


@dataclass(frozen=True)
class ReplayBatch(Experiment):
    """The forward pass on a tape, then backward with every function watched.

    Columns are named ``"forward: net.2 (log)"`` or ``"backward: SqrtBackward0"``; ``"none"`` where
    all values are finite.
    """

    name: ClassVar[str] = "replay-batch"
    signal: ClassVar[Signal] = EXPERIMENT_REPLAY_BATCH
    batches: ClassVar[int] = 2
    cost: ClassVar[float] = 4.0
    tells: ClassVar[tuple[str, ...]] = ("LP201", "LP202", "LP204", "LP207")

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return one row with the first place that is not finite."""
        for batch in bench.take(self.batches):
            place = self._place(bench, batch)
            if place is not None:
                return ({place: 1.0},)
        return ({"none": 1.0},)

    def _place(self, bench: Bench, batch: Any) -> str | None:
        sandbox = bench.sandbox()
        born = _forward_place(sandbox.tape(batch))
        return f"forward: {born}" if born is not None else _backward_place(sandbox, batch)


def _forward_place(tape: Tape) -> str | None:
    """Return the first operation that made a value that is not finite, or None.

    A −inf that masks something is none, nor is what never reaches the loss.
    """
    born = first_non_finite(tape)
    known = tape.root is not None and tape.root >= 0
    return None if born is None or (known and tape.finite) else born.site


def _backward_place(sandbox: Sandbox, batch: Any) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it is slow, and prints the call
            with torch.autograd.detect_anomaly():
                sandbox.gradients(batch)
    except InconclusiveError:
        raise
    except RuntimeError as error:
        found = re.search(r"Function '(\w+)' returned nan", str(error))
        if found is None:
            raise
        return f"backward: {found.group(1)}"
    return None
