"""Do the labels say anything of the inputs?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lightning_plateau.core.signal import EXPERIMENT_SHUFFLED_LABELS, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row, with_leaves
from lightning_plateau.experiments.sandbox import InconclusiveError, seed
from lightning_plateau.recording.batch import leaves


@dataclass(frozen=True)
class ShuffledLabels(Experiment):
    """A short training with true labels and one with shuffled labels, on the same batches.

    Shuffled labels can be learned by heart, and nothing but by heart. Where the true ones are
    learned no faster and help no more on batches that were not trained on, they are as good as
    shuffled.

    Attributes:
        unseen: Batches that are kept aside.
        rounds: Times that the other batches are gone through.
        learning_rate: Of Adam.
        least_changed: Share of the labels that shuffling must change for the test to mean anything.

    References:
        Zhang et al., 2017, Understanding Deep Learning Requires Rethinking Generalization (ICLR).
        Arpit et al., 2017, A Closer Look at Memorization in Deep Networks (ICML).
    """

    name: ClassVar[str] = "shuffled-labels"
    signal: ClassVar[Signal] = EXPERIMENT_SHUFFLED_LABELS
    batches: ClassVar[int] = 8
    cost: ClassVar[float] = 86.0
    tells: ClassVar[tuple[str, ...]] = ("LP106", "LP802")

    unseen: int = 3
    rounds: int = 8
    learning_rate: float = 3e-3
    least_changed: float = 0.3

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return losses ``before``, after ``true`` and ``shuffled``, and of both on ``unseen``."""
        if len(bench.given) < self.batches:
            raise InconclusiveError(f"{len(bench.given)} batches are too few")
        if bench.trainer.num_training_batches < self.batches:
            raise InconclusiveError("an epoch is so short that no batch would be unseen")
        seen, unseen = bench.given[self.unseen :], bench.given[: self.unseen]
        shuffled = self._shuffled(bench, seen)
        start = bench.sandbox()
        row = {
            "before": _mean(start.loss(batch) for batch in seen),
            "unseen before": _mean(start.loss(batch) for batch in unseen),
        }
        for name, batches in (("true", seen), ("shuffled", shuffled)):
            sandbox = bench.sandbox()
            sandbox.use_adam(self.learning_rate)
            seed(1)
            losses = [sandbox.step(batch) for _ in range(self.rounds) for batch in batches]
            row[name] = _mean(losses[-len(batches) :])
            row[f"unseen {name}"] = _mean(sandbox.loss(batch) for batch in unseen)
        return (row,)

    def _shuffled(self, bench: Bench, batches: Sequence[Any]) -> list[Any]:
        """Return the batches with the labels shuffled among all of them."""
        labels = [
            {path: leaf for path, leaf in leaves(batch) if path in bench.sides.labels}
            for batch in batches
        ]
        sizes = [next(iter(each.values())).shape[0] for each in labels]
        mixed: list[dict[str, Tensor]] = [{} for _ in batches]
        order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(0))
        for path in sorted(labels[0]):
            together = torch.cat([each[path] for each in labels])
            new = together[order.to(together.device)]
            if float((new != together).float().mean()) < self.least_changed:
                raise InconclusiveError("nearly all labels are the same")
            for each, part in zip(mixed, torch.split(new, sizes), strict=True):
                each[path] = part
        return [with_leaves(batch, new) for batch, new in zip(batches, mixed, strict=True)]


def _mean(losses: Any) -> float:
    values = [loss for loss in losses if math.isfinite(loss)]
    return float(np.mean(values)) if values else math.nan
