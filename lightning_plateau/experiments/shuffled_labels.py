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
from lightning_plateau.experiments.sandbox import InconclusiveError, Sandbox, seed
from lightning_plateau.recording.batch import leaves

MARGIN = 1.5
"""How much longer a step may take than so far, where it is asked what there is room for."""


@dataclass(frozen=True)
class ShuffledLabels(Experiment):
    """A short training with true labels and one with shuffled labels, on the same batches.

    Shuffled labels can be learned by heart, and nothing but by heart. Where the true ones are
    learned no faster and help no more on batches that were not trained on, they are as good as
    shuffled.

    Attributes:
        unseen: Batches that are kept aside.
        rounds: Times that the other batches are gone through.
        most_rounds: The same at most: where the true labels are hardly learned in ``rounds`` and
            the budget has room for it, the training goes on, for without learning nothing is told.
        least_fall: Share of the loss that counts as learned.
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
    most_rounds: int = 24
    least_fall: float = 0.1
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
        rounds = None
        for name, batches in (("true", seen), ("shuffled", shuffled)):
            sandbox = bench.sandbox()
            sandbox.use_adam(self.learning_rate)
            seed(1)
            began_s, losses = bench.budget.elapsed_s, self._train(sandbox, batches, rounds)
            if rounds is None:
                rounds = self._rounds(bench, row["before"], losses, began_s)
                losses += self._train(sandbox, batches, rounds - self.rounds)
            row[name] = _mean(losses[-len(batches) :])
            row[f"unseen {name}"] = _mean(sandbox.loss(batch) for batch in unseen)
        return (row,)

    def _train(self, sandbox: Sandbox, batches: Sequence[Any], rounds: int | None) -> list[float]:
        times = self.rounds if rounds is None else rounds
        return [sandbox.step(batch) for _ in range(times) for batch in batches]

    def _rounds(self, bench: Bench, before: float, losses: Sequence[float], began_s: float) -> int:
        """Return how many rounds of both trainings it takes, and the budget has room for.

        Args:
            bench: What it works with.
            before: The loss before.
            losses: Those of the first rounds with the true labels.
            began_s: When these began, by the clock of the budget.
        """
        a_round = len(losses) // self.rounds
        learned = before - _mean(losses[-a_round:]) >= self.least_fall * abs(before)
        if learned or not bench.alone or not math.isfinite(before):
            return self.rounds  # several ranks make the same steps, whatever each has measured
        budget, step_s = bench.budget, (bench.budget.elapsed_s - began_s) / len(losses)
        left = min(
            budget.steps - budget.spent_steps - self.unseen,
            (budget.time_s - budget.elapsed_s) / max(step_s, 1e-6) / MARGIN,
        )
        affordable = (left / a_round + self.rounds) / 2  # those made count once, all others twice
        return max(self.rounds, int(min(self.most_rounds, affordable)))

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
