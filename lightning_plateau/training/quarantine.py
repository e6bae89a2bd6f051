"""Quarantine: batches whose steps are left out each time they come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Place = tuple[int, int]
"""Epoch, counted from 0, and index of a batch in it; epoch −1 stands for every epoch."""
EVERY = -1


class Quarantine:
    """Batches by their place in the data, whose steps are told to the guard as not finite.

    Args:
        trainer: The Trainer, which knows the batch under way.
        places: Where the batches are.
    """

    def __init__(self, trainer: Any, places: Iterable[Place]) -> None:
        self._trainer = trainer
        self.places = frozenset(places)

    def judged(self, norms: Tensor) -> Tensor:
        """Return ``norms``, or NaN in their place where the batch under way is in quarantine."""
        here = batch_index(self._trainer)
        epoch = int(self._trainer.current_epoch)
        accumulated = int(self._trainer.accumulate_grad_batches)
        window = range(here - here % accumulated, here + 1)
        held = any((e, index) in self.places for e in (EVERY, epoch) for index in window)
        return torch.full_like(norms, float("nan")) if held else norms

    def close(self) -> None:
        """Nothing was hung on the training itself."""

    def finish(self) -> None:
        """Nothing was hung on the training itself."""


def batch_index(trainer: Any) -> int:
    """Return the index of the batch under way, or of the last one, in its epoch."""
    return int(trainer.fit_loop.epoch_loop.batch_idx)


def place_of(trainer: Any, step: int, *, shuffled: bool) -> Place:
    """Return the place of the last batch of an optimizer step of the run.

    Args:
        trainer: The Trainer, whose epochs have an end.
        step: Optimizer step, counted from 0; one for each window of accumulated batches.
        shuffled: Whether a batch with that index is another one in each epoch.
    """
    batches, window = int(trainer.num_training_batches), int(trainer.accumulate_grad_batches)
    epoch, position = divmod(step, -(-batches // window))
    index = min(batches, (position + 1) * window) - 1
    return (epoch if shuffled else EVERY, index)


def obstacle(trainer: Any, step: int, optimizers: int) -> str | None:
    """Return why batches cannot be told by their place; None where they can.

    Args:
        trainer: The Trainer.
        step: Optimizer steps made, the last of them with the batch under way.
        optimizers: How many optimizers there are.
    """
    if optimizers != 1:
        return f"there are {optimizers} optimizers, and a batch may be stepped on several times"
    if not 0 < trainer.num_training_batches < float("inf"):
        return "the epochs have no end that is known, so that a batch has no place"
    expected = place_of(trainer, step - 1, shuffled=True)[1]
    if expected != batch_index(trainer):
        return "steps and batches do not keep pace, so that a batch has no place"
    return None
