"""Can the model learn one batch by heart?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.signal import EXPERIMENT_OVERFIT, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row
from lightning_plateau.experiments.sandbox import Sandbox


@dataclass(frozen=True)
class OverfitOneBatch(Experiment):
    """One batch again and again, with the run's own optimizer and with Adam.

    What cannot be learned by heart cannot be learned: then the fault lies in the model or in the
    loss. Where Adam can and the run's own optimizer cannot, it lies in the optimizer; where both
    can, in the data or in the schedule.

    Attributes:
        steps: Steps of each attempt.
        learning_rates: Of Adam, one after the other until one succeeds.
        success: Share of the loss that must be gone for an attempt to have succeeded.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks ("overfit one batch").
    """

    name: ClassVar[str] = "overfit-one-batch"
    signal: ClassVar[Signal] = EXPERIMENT_OVERFIT
    cost: ClassVar[float] = 122.0
    tells: ClassVar[tuple[str, ...]] = ("LP803", "LP802")

    steps: int = 30
    learning_rates: tuple[float, ...] = (1e-2, 1e-3, 1e-1)
    success: float = 0.5

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the loss ``before``, and after the run's ``own`` optimizer and ``adam``."""
        batch = bench.given[0]
        sandbox = bench.sandbox()
        before = sandbox.loss(batch)
        goal = before - self.success * abs(before) if bench.alone else -math.inf
        row = {"before": before, "own": self._repeat(bench.sandbox(), batch, goal)}
        attempts: list[float] = []
        for rate in self.learning_rates if row["own"] > goal or math.isnan(row["own"]) else ():
            sandbox = bench.sandbox()
            sandbox.use_adam(rate)
            attempts.append(self._repeat(sandbox, batch, goal))
            if attempts[-1] <= goal:
                break
        return ({**row, "adam": min(filter(math.isfinite, attempts), default=math.nan)},)

    def _repeat(self, sandbox: Sandbox, batch: object, goal: float) -> float:
        """Return the lowest median of three losses in a row; NaN where none is finite."""
        losses: list[float] = []
        for _ in range(self.steps):
            losses.append(sandbox.step(batch))
            if float(np.median(losses[-3:])) <= goal and len(losses) >= 3:
                break
        middles = [float(np.median(losses[i : i + 3])) for i in range(max(1, len(losses) - 2))]
        return min(filter(math.isfinite, middles), default=math.nan)
