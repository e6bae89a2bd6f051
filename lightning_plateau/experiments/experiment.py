"""The abstract experiment, the bench it is made on, and what comes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lightning_plateau.core.roles import Sides, sides
from lightning_plateau.core.signal import Signal
from lightning_plateau.experiments.budget import Budget, BudgetExceededError
from lightning_plateau.experiments.memory import give_back, insist_on_room
from lightning_plateau.experiments.sandbox import (
    InconclusiveError,
    Sandbox,
    copied,
    seed,
    undisturbed,
)
from lightning_plateau.recording.batch import leaves

Row = Mapping[str, float]
MOST_TOLD = 6
"""Values of an experiment that are told in one line; its chart shows all."""


@dataclass(frozen=True)
class Experiment(ABC):
    """A short active test of a training, made on a copy.

    A frozen dataclass whose fields are its settings. It returns measurements; rules draw the
    conclusions.

    Class attributes:
        name: What is done, in kebab case.
        signal: What is measured; its columns are the conditions that are compared.
        batches: Batches that it uses.
        cost: Training steps that it takes at most; a pass forward alone is a third of one.
        tells: Codes of the faults that its outcome speaks for or against.
    """

    name: ClassVar[str]
    signal: ClassVar[Signal]
    batches: ClassVar[int] = 1
    cost: ClassVar[float]
    tells: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the values by condition: one row, or one for each batch.

        Raises:
            InconclusiveError: If nothing can be learned from it in this training.
            BudgetExceededError: If it needs more than it was given.
        """


@dataclass
class Bench:
    """What an experiment works with.

    Attributes:
        trainer: The Trainer.
        module: The LightningModule that is trained.
        given: Batches as ``training_step`` receives them.
        budget: What may be spent.
    """

    trainer: Any
    module: nn.Module
    given: Sequence[Any]
    budget: Budget = field(default_factory=Budget)

    def sandbox(self) -> Sandbox:
        """Return a fresh copy of the training as it is now."""
        return Sandbox(self.trainer, self.module, self.budget)

    def take(self, number: int) -> list[Any]:
        """Return ``number`` batches, the first ones again where there are fewer."""
        return [self.given[index % len(self.given)] for index in range(number)]

    @property
    def alone(self) -> bool:
        """Whether there is one rank; with more, all must make the same number of steps."""
        return int(self.trainer.world_size) == 1

    @cached_property
    def sides(self) -> Sides:
        """Which tensors of the batch are inputs, and which are labels.

        Raises:
            InconclusiveError: If the loss does not tell.
        """
        found = sides(self.sandbox().tape(self.given[0]))
        if not (found.inputs and found.labels):
            raise InconclusiveError("the loss does not tell inputs from labels")
        return found


def with_leaves(batch: Any, new: Mapping[str, Tensor]) -> Any:
    """Return a copy of ``batch`` in which the tensors at the paths of ``new`` have its values."""
    made = copied(batch)
    with torch.no_grad():
        for path, leaf in leaves(made):
            if path in new:
                leaf.copy_(new[path])
    return made


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an experiment.

    Attributes:
        name: The experiment's.
        rows: What was measured; empty where nothing was.
        steps: Training steps that it took.
        elapsed_s: Seconds that it took.
        inconclusive: Why nothing can be learned from it here; empty where something was.
        failure: What went wrong; empty where nothing did.
    """

    name: str
    rows: tuple[Row, ...] = ()
    steps: float = 0.0
    elapsed_s: float = 0.0
    inconclusive: str = ""
    failure: str = ""


def described(result: Result) -> str:
    """Return in one line what came of an experiment.

    Example:
        >>> described(Result("zero-inputs", ({"real": 2.3, "zeroed": 2.3},), 1.3, 0.05))
        'experiment zero-inputs on a copy (1 step, 0.1 s): real: 2.3, zeroed: 2.3'
    """
    said = result.failure or result.inconclusive
    if result.rows:
        middle = {
            name: float(np.median([row.get(name, np.nan) for row in result.rows]))
            for name in result.rows[0]
        }
        told = [f"{name}: {value:.4g}" for name, value in middle.items()]
        left_out = len(told) - MOST_TOLD
        said = ", ".join(told if left_out <= 0 else [*told[: MOST_TOLD - 1], "…", told[-1]])
    steps = f"{result.steps:.0f}"
    spent = f"{steps} step{'' if steps == '1' else 's'}, {result.elapsed_s:.1f} s"
    return f"experiment {result.name} on a copy ({spent}): {said}"


def conduct(experiment: Experiment, bench: Bench) -> Result:
    """Make an experiment and return what came of it, whatever happens.

    The training is bit for bit as it was before. On several ranks all of them call this at the same
    step, and all receive what rank zero measured.

    Args:
        experiment: The experiment.
        bench: What it works with.
    """
    budget = bench.budget
    steps, elapsed_s = budget.spent_steps, budget.elapsed_s
    rows: tuple[Row, ...] = ()
    inconclusive = failure = ""
    budget.begin()
    try:
        with undisturbed(bench.module):
            insist_on_room(bench.module, bench.trainer.optimizers)
            seed(0)
            rows = tuple(dict(row) for row in experiment.run(bench))
    except InconclusiveError as error:
        inconclusive = str(error)
    except BudgetExceededError as error:
        failure = f"it was given up: {error}"
    except Exception as error:  # noqa: BLE001 - it becomes LP903, and the run goes on
        failure = f"{type(error).__name__}: {error}".partition("\n")[0]
    budget.end()
    give_back()
    ended = bool(inconclusive or failure)
    if not bench.alone and not budget.stopped and budget.agree(ended) and not ended:
        failure = "it failed on another rank"
    result = Result(
        experiment.name,
        () if inconclusive or failure else rows,
        budget.spent_steps - steps,
        budget.elapsed_s - elapsed_s,
        inconclusive,
        failure,
    )
    if bench.alone:
        return result
    shared: Result = bench.trainer.strategy.broadcast(result)
    return shared
