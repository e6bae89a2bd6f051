"""Would more data help?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.signal import EXPERIMENT_LEARNING_CURVE, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row
from lightning_plateau.experiments.sandbox import InconclusiveError, seed


@dataclass(frozen=True)
class LearningCurve(Experiment):
    """As many steps on a quarter of some batches as on all of them, judged by others.

    Where unseen batches gain much by four times the data, more of it is worth its price; where they
    gain nothing, it is the model, the labels or the features.

    Attributes:
        unseen: Batches that are kept aside.
        steps: Steps of each training.
        learning_rate: Of Adam.
        shares: Of the batches that are trained on.

    References:
        Cortes et al., 1993, Learning Curves: Asymptotic Values and Rate of Convergence (NeurIPS).
    """

    name: ClassVar[str] = "learning-curve"
    signal: ClassVar[Signal] = EXPERIMENT_LEARNING_CURVE
    batches: ClassVar[int] = 16
    cost: ClassVar[float] = 123.0
    tells: ClassVar[tuple[str, ...]] = ()

    unseen: int = 4
    steps: int = 60
    learning_rate: float = 1e-2
    shares: tuple[float, ...] = (0.25, 1.0)

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the loss of the unseen batches by share of the data."""
        if len(bench.given) < self.batches:
            raise InconclusiveError(f"{len(bench.given)} batches are too few")
        if bench.trainer.num_training_batches < self.batches:
            raise InconclusiveError("an epoch is so short that no batch would be unseen")
        return ({f"{share:g}": self._train(bench, share) for share in self.shares},)

    def _train(self, bench: Bench, share: float) -> float:
        seen, unseen = bench.given[self.unseen :], bench.given[: self.unseen]
        used = seen[: max(1, round(share * len(seen)))]
        sandbox = bench.sandbox()
        sandbox.use_adam(self.learning_rate)
        seed(1)
        for number in range(self.steps):
            sandbox.step(used[number % len(used)])
        losses = [sandbox.loss(batch) for batch in unseen]
        return sum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.nan
