"""How much of what training has learned does not show in validation, before anything repeats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.chance import chance_loss, summed
from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.repetition import repetition
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS

LEAST_STEPS = 8
"""Steps of the first epoch below which its last quarter says nothing."""
SETTLED = 40
"""Steps after which the running statistics of an ordinary batch norm have forgotten their start."""
LEAST_VALIDATIONS = 2
LEAST_LEARNED = 0.2
LATEST_FIRST_VALIDATION = 2
MOST_REPEATED = 0.5
"""Share of the first epoch's samples that had come before, above which they are not new to it."""


@dataclass(frozen=True, slots=True)
class EvaluationGap:
    """Training and validation where no sample had been seen twice.

    In the first epoch a sample is new to the model when it is trained on, as validation samples
    are: both losses should be alike, whatever happens later.

    Attributes:
        training: Level of the training loss at the end of the first epoch.
        validation: Lowest validation loss so far.
        guessing: Loss of guessing.
    """

    training: float
    validation: float
    guessing: float

    @property
    def share(self) -> float:
        """Share of what was learned in the first epoch that no validation has shown."""
        return (self.validation - self.training) / (self.guessing - self.training)


def repeats_at_once(history: History) -> bool:
    """Whether most samples of the first epoch had come before in it, as a sampler may draw them.

    Example:
        >>> repeats_at_once(History())
        False
    """
    return repetition(history).share > MOST_REPEATED


@derived
def evaluation_gap(history: History) -> EvaluationGap | None:
    """Return the gap; None where nothing was learned in the first epoch, or nothing is known.

    Example:
        >>> evaluation_gap(History()) is None
        True
    """
    losses, validations = history[LOSS].finite, history[VALIDATION_LOSS].finite
    guess = chance_loss(history)
    settled = np.count_nonzero(validations.steps >= SETTLED)
    if guess is None or guess <= 0.0 or summed(history) or settled < LEAST_VALIDATIONS:
        return None
    if repeats_at_once(history):
        return None
    end = history.epoch_ends[0] if history.epoch_ends else int(validations.steps[0])
    first = losses.until(end).values
    if len(first) < LEAST_STEPS or validations.steps[0] > LATEST_FIRST_VALIDATION * end:
        return None
    training = float(np.median(first[-(len(first) // 4) :]))
    if not guess - training > LEAST_LEARNED * guess:
        return None
    return EvaluationGap(training, min(1e100, float(validations.values.min())), guess)
