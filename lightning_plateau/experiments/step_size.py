"""Is the update too long, too short, or about right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_plateau.core.signal import EXPERIMENT_STEP_SIZE, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row
from lightning_plateau.experiments.sandbox import seed


@dataclass(frozen=True)
class StepSize(Experiment):
    """The loss of a batch along the update that the run's own optimizer makes of it.

    Where it rises at once and fell at a tenth of the way, the step overshoots. Where it falls as
    steeply ten times as far, the step is short.

    Attributes:
        multiples: Places along the update; 0 is the start and 1 the end.

    References:
        Bottou et al., 2018, Optimization Methods for Large-Scale Machine Learning, section 4.
    """

    name: ClassVar[str] = "step-size"
    signal: ClassVar[Signal] = EXPERIMENT_STEP_SIZE
    batches: ClassVar[int] = 3
    cost: ClassVar[float] = 9.0
    tells: ClassVar[tuple[str, ...]] = ("LP406", "LP407")

    multiples: tuple[float, ...] = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the losses at each multiple, a row for each batch."""
        return tuple(self._along(bench, batch) for batch in bench.take(self.batches))

    def _along(self, bench: Bench, batch: Any) -> Row:
        sandbox = bench.sandbox()
        start = [parameter.detach().clone() for parameter in sandbox.parameters]
        seed(1)
        sandbox.step(batch)
        update = [
            after.detach() - before for after, before in zip(sandbox.parameters, start, strict=True)
        ]
        row = {}
        for multiple in self.multiples:
            _place(sandbox.parameters, start, update, multiple)
            seed(1)  # the same dropout everywhere
            row[f"{multiple:g}"] = sandbox.loss(batch)
        return row


def _place(
    parameters: Sequence[Tensor], start: Sequence[Tensor], update: Sequence[Tensor], multiple: float
) -> None:
    with torch.no_grad():
        for parameter, before, change in zip(parameters, start, update, strict=True):
            # Zero times an update that is not finite is not finite.
            parameter.copy_(before if multiple == 0.0 else before + multiple * change)
