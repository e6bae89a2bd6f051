"""Which learning rates lower the loss, and from which on does it rise?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.signal import EXPERIMENT_LEARNING_RATES, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row
from lightning_plateau.experiments.sandbox import seed


@dataclass(frozen=True)
class LearningRateRange(Experiment):
    """A short training with each of several multiples of the run's own learning rate.

    Each begins anew from the weights as they are: unlike a rate that grows from step to step, a
    large one is not judged by what the small ones before it have reached.

    Attributes:
        multiples: Of the learning rate of the run.
        rounds: Times that the batches are gone through.

    References:
        Smith, 2017, Cyclical Learning Rates for Training Neural Networks (WACV).
    """

    name: ClassVar[str] = "learning-rate-range"
    signal: ClassVar[Signal] = EXPERIMENT_LEARNING_RATES
    batches: ClassVar[int] = 4
    cost: ClassVar[float] = 64.0
    tells: ClassVar[tuple[str, ...]] = ()

    multiples: tuple[float, ...] = (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
    rounds: int = 2

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the mean loss of the last round by multiple."""
        return ({f"{multiple:g}": self._train(bench, multiple) for multiple in self.multiples},)

    def _train(self, bench: Bench, multiple: float) -> float:
        batches = bench.take(self.batches)
        sandbox = bench.sandbox()
        sandbox.scale_learning_rate(multiple)
        seed(1)
        losses = [sandbox.step(batch) for _ in range(self.rounds) for batch in batches]
        return sum(losses[-len(batches) :]) / len(batches)
