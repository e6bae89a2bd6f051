"""Do training mode and evaluation mode agree on the same batch?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_plateau.core.signal import EXPERIMENT_TRAIN_AGAINST_EVAL, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row


@dataclass(frozen=True)
class TrainAgainstEval(Experiment):
    """The loss of the same batches in both modes.

    They differ by dropout and by the statistics that normalization uses. A large gap says that what
    is trained is not what will be used.

    References:
        Ioffe and Szegedy, 2015, Batch Normalization. Li et al., 2019, Understanding the Disharmony
        between Dropout and Batch Normalization by Variance Shift (CVPR).
    """

    name: ClassVar[str] = "train-against-eval"
    signal: ClassVar[Signal] = EXPERIMENT_TRAIN_AGAINST_EVAL
    batches: ClassVar[int] = 4
    cost: ClassVar[float] = 3.0
    tells: ClassVar[tuple[str, ...]] = ("LP602",)

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the losses ``train`` and ``eval``, a row for each batch."""
        return tuple(self._both(bench, batch) for batch in bench.take(self.batches))

    def _both(self, bench: Bench, batch: Any) -> Row:
        # First evaluation: a pass in training mode moves the running statistics.
        sandbox = bench.sandbox()
        modes = [(part, part.training) for part in sandbox.module.modules()]
        sandbox.module.eval()
        row = {"eval": sandbox.loss(batch)}
        for part, training in modes:
            part.training = training
        return {"train": sandbox.loss(batch), **row}
