"""Training loss and validation loss side by side, validation by validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.chance import guessing, summed
from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS
from lightning_plateau.core.trend import MAGNITUDE
from lightning_plateau.core.updates import weight_updates


@dataclass(frozen=True, slots=True)
class Generalization:
    """Levels at each validation whose loss was finite.

    Attributes:
        training: Median of the training losses since the validation before.
        validation: Validation losses.
    """

    training: Floats
    validation: Floats

    def __len__(self) -> int:
        return len(self.validation)


@derived
def generalization(history: History) -> Generalization:
    """Return training and validation losses side by side; none where the loss grows with the batch.

    Example:
        >>> from lightning_plateau.testing import history
        >>> run = history({VALIDATION_LOSS: [2.0, 1.5]}, loss=[3.0, 2.0, 1.0, 0.0], every=2)
        >>> beside = generalization(run)
        >>> beside.training.tolist(), beside.validation.tolist()
        ([3.0, 1.5], [2.0, 1.5])
    """
    losses, validations = history[LOSS].finite, history[VALIDATION_LOSS].finite
    if summed(history):
        return Generalization(np.empty(0), np.empty(0))
    training, kept = [], []
    before = -1
    for step, value in zip(validations.steps.tolist(), validations.values.tolist(), strict=True):
        between = losses.since(before + 1).until(step + 1).values
        before = step
        if len(between):
            training.append(float(np.median(np.clip(between, -MAGNITUDE, MAGNITUDE))))
            kept.append(float(np.clip(value, -MAGNITUDE, MAGNITUDE)))
    return Generalization(np.array(training), np.array(kept))


IMPROVING = 0.02
"""Share of its gain by which a validation loss must beat its earlier best to be still falling."""
LATEST = 4
"""The latest validations are this part of all: a quarter."""


def improves(validation: Floats) -> bool:
    """Whether a validation loss is still coming down: its last quarter beats all that was before.

    Args:
        validation: Validation losses, ``[n]``, finite.

    Example:
        >>> improves(np.linspace(2.0, 1.0, 20)), improves(np.array([2.0, 1.0, 1.2, 1.3, 1.2]))
        (True, False)
    """
    latest = max(1, len(validation) // LATEST)
    if len(validation) <= latest:
        return False
    before, now = float(validation[:-latest].min()), float(np.median(validation[-latest:]))
    return before - now > IMPROVING * max(float(validation[0]) - now, 0.0)


CLEARLY = 0.05
"""Share of the best validation loss so far that a clearly lower one lies below it."""
LEAST_UPDATE = 1e-3
"""Share of the weights that an ordinary update moves them by, at the least."""
STEADY = 3
"""Validations, each lower than the one before, that chance hardly makes of a loss at rest."""


@derived
def validation_falls(history: History) -> bool:
    """Whether the latest validation is clearly lower than any before, and than guessing.

    Or each was lower than the one before, the latest does not lag behind the few before it, and at
    the pace of these they will be clearly lower than guessing by the planned end, or in as many
    validations again, by updates of a thousandth of the weights or more: one that crawls gets
    nowhere. Above guessing, five validations must say so. All of them see the same samples, so that
    the noise of single batches has no part in it.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 2))
        >>> sides = (Operand("operation", 0, shape=(8, 2)), Operand("batch", 1, "1", (8,)))
        >>> tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
        >>> run = history({VALIDATION_LOSS: [0.8, 0.65]}, loss=[0.7] * 100, every=50, tapes=[tape])
        >>> validation_falls(run)
        True
        >>> steady = {VALIDATION_LOSS: [0.68, 0.67, 0.663]}
        >>> validation_falls(history(steady, loss=[0.7] * 150, every=50, tapes=[tape]))
        True
    """
    values = np.clip(history[VALIDATION_LOSS].finite.values, -MAGNITUDE, MAGNITUDE)
    guess = guessing(history)
    if len(values) < 2 or guess is None:
        return False
    best, now = float(values[:-1].min()), float(values[-1])
    if now < min(guess.loss, best - CLEARLY * abs(best)):
        return True
    planned = history.profile.planned_steps
    more = 1.0 if planned is None else max(0.0, planned / max(1, history.step) - 1.0)
    pace = _pace(values)
    arrives = now - pace * more * len(values) < guess.loss - CLEARLY * abs(guess.loss)
    moved = weight_updates(history)
    crawls = moved is not None and moved.typical < LEAST_UPDATE
    # What comes down from above may come to rest at guessing: more of them must tell.
    enough = now < guess.loss or len(values) > STEADY + 1
    return pace > 0.0 and enough and arrives and not crawls


def _pace(values: Floats) -> float:
    """Return by how much values fall of late; 0 where one did not, or the last one by less."""
    falls = -np.diff(values)
    recent = float(falls[-STEADY:].mean())
    steady = len(values) >= STEADY and (falls > 0).all() and falls[-1] > 0.5 * recent
    return recent if steady else 0.0


HELD = 0.1
"""Share of its gain that a validation loss may give back and still count as good as ever."""


@derived
def validation_holds(history: History) -> bool:
    """Whether the latest validations are as good as any: what was learned is not being lost.

    The last two must lie within a tenth of the whole gain above the best one, and the last of them
    within the last tenth of the run.

    Example:
        >>> from lightning_plateau.testing import history
        >>> validation_holds(history({VALIDATION_LOSS: [2.0, 1.0, 1.05]}, loss=[1.0] * 3))
        True
        >>> validation_holds(history({VALIDATION_LOSS: [2.0, 1.0, 1.6]}, loss=[1.0] * 3))
        False
    """
    series = history[VALIDATION_LOSS].finite
    values = np.clip(series.values, -MAGNITUDE, MAGNITUDE)
    if len(values) < 3 or series.steps[-1] + 1 < 0.9 * history.step:
        return False
    gain = float(values[0] - values.min())
    return gain > 0 and bool(values[-2:].max() - values.min() <= HELD * gain)
