"""Can the model learn one batch by heart?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from lightning_plateau.core.signal import EXPERIMENT_OVERFIT, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row, with_leaves
from lightning_plateau.experiments.sandbox import InconclusiveError, Sandbox
from lightning_plateau.recording.batch import leaves


@dataclass(frozen=True)
class OverfitOneBatch(Experiment):
    """One batch again and again, with the run's own optimizer and with Adam.

    Adam is not hindered by dropout. What cannot be learned by heart cannot be learned: then the
    fault lies in the model or in the loss. Where Adam can and the run's own optimizer cannot, it
    lies in the optimizer or in what is dropped; where both can, in the data or in the schedule. A
    few labels are fitted well without looking at the inputs; so the batch is tried with zeros for
    inputs too, and only what goes beyond that was learned.

    Attributes:
        steps: Steps of each attempt.
        learning_rates: Of Adam, one after the other until one succeeds.
        success: Share of the loss that must be gone for an attempt to have succeeded.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks ("overfit one batch").
    """

    name: ClassVar[str] = "overfit-one-batch"
    signal: ClassVar[Signal] = EXPERIMENT_OVERFIT
    cost: ClassVar[float] = 127.0
    tells: ClassVar[tuple[str, ...]] = ("LP803", "LP802")

    steps: int = 25
    learning_rates: tuple[float, ...] = (1e-2, 1e-3, 1e-1)
    success: float = 0.35

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the loss ``before``, after the ``own`` optimizer, ``adam`` and ``blind`` Adam."""
        batch = bench.given[0]
        before = bench.sandbox().loss(batch)
        goal = before - self.success * abs(before) if bench.alone else -math.inf
        own = self._repeat(bench.sandbox(), batch, goal)
        attempts = {math.nan: math.nan}
        for rate in () if own <= goal else self.learning_rates:
            attempts[rate] = self._with_adam(bench, batch, rate, goal)
            if attempts[rate] <= goal:
                break
        finite = {rate: loss for rate, loss in attempts.items() if math.isfinite(loss)}
        best = min(finite, key=lambda rate: finite[rate], default=self.learning_rates[0])
        row = {"before": before, "own": own, "adam": finite.get(best, math.nan)}
        return ({**row, "blind": self._blind(bench, batch, best, goal)},)

    def _with_adam(self, bench: Bench, batch: Any, rate: float, goal: float) -> float:
        sandbox = bench.sandbox()
        sandbox.use_adam(rate)
        sandbox.leave_out_dropout()
        return self._repeat(sandbox, batch, goal)

    def _blind(self, bench: Bench, batch: Any, rate: float, goal: float) -> float:
        """Return what is reached without the inputs; NaN where it is not known what they are."""
        try:
            inputs = bench.sides.inputs
        except InconclusiveError:
            return math.nan
        zeros = {path: torch.zeros_like(leaf) for path, leaf in leaves(batch) if path in inputs}
        return self._with_adam(bench, with_leaves(batch, zeros), rate, goal)

    def _hopeless(self, losses: list[float], goal: float) -> bool:
        """Whether the loss is not finite for good; several ranks make all steps nevertheless."""
        alone = goal > -math.inf or math.isnan(goal)
        return alone and len(losses) >= 3 and not any(map(math.isfinite, losses[-3:]))

    def _repeat(self, sandbox: Sandbox, batch: Any, goal: float) -> float:
        """Return the lowest median of three losses in a row; NaN where none is finite."""
        losses: list[float] = []
        for _ in range(self.steps):
            losses.append(sandbox.step(batch))
            if self._hopeless(losses, goal):
                return math.nan
            if float(np.median(losses[-3:])) <= goal and len(losses) >= 3:
                break
        if 2 * sandbox.updates < len(losses):
            raise InconclusiveError(f"{len(losses)} calls made only {sandbox.updates} updates")
        middles = [float(np.median(losses[i : i + 3])) for i in range(max(1, len(losses) - 2))]
        return min(filter(math.isfinite, middles), default=math.nan)
