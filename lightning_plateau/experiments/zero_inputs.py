"""Does the loss depend on the inputs at all?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from lightning_plateau.core.signal import EXPERIMENT_ZERO_INPUTS, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row, with_leaves
from lightning_plateau.experiments.sandbox import seed
from lightning_plateau.recording.batch import leaves


@dataclass(frozen=True)
class ZeroInputs(Experiment):
    """The same labels with the inputs as they are, with zeros, and with those of other samples.

    A network whose loss is the same each time does not see its inputs: they were replaced or lost
    on their way, or what they lead to is dead.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks ("input-independent baseline").
    """

    name: ClassVar[str] = "zero-inputs"
    signal: ClassVar[Signal] = EXPERIMENT_ZERO_INPUTS
    cost: ClassVar[float] = 2.0
    tells: ClassVar[tuple[str, ...]] = ("LP707", "LP803")

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the losses ``real``, ``zeroed`` and ``swapped``."""
        batch = bench.given[0]
        inputs = {path: leaf for path, leaf in leaves(batch) if path in bench.sides.inputs}
        zeros = {path: torch.zeros_like(leaf) for path, leaf in inputs.items()}
        others = {path: leaf.flip(0) for path, leaf in inputs.items() if leaf.dim()}
        arms = {
            "real": batch,
            "zeroed": with_leaves(batch, zeros),
            "swapped": with_leaves(batch, others),
        }
        row = {}
        for name, arm in arms.items():
            sandbox = bench.sandbox()
            seed(1)  # the same dropout in each
            row[name] = sandbox.loss(arm)
        return (row,)
