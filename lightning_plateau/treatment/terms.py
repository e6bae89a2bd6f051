"""Terms: what a trial is judged by, read off the run before its remedy is applied."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lightning_plateau.core.chance import untrained_loss
from lightning_plateau.core.history import History
from lightning_plateau.core.progress import progress
from lightning_plateau.core.remedy import Remedy
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.statistics import theil_sen
from lightning_plateau.training.run import Run
from lightning_plateau.training.snapshot import Snapshot
from lightning_plateau.treatment.comparison import Level

VALIDATIONS = 3
"""Validations that are compared where it is they that tell."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a trial is judged by.

    Attributes:
        before: The loss before the remedy.
        probation_steps: Optimizer steps to watch.
        pace: By how much the loss changed a step before the remedy; 0 where it stood still.
        fresh: Whether the run began again from its first weights with the remedy. Such a trial is
            kept only where the loss falls below that of the first step, and ends halfway where
            nothing shows that it does.
        must_improve: Whether nothing but a better loss will do, as where the fault was gone before.
        first: The loss at the first step of a run that began again; infinite where it was not
            finite.
        overshot: Whether the loss of a run that began again was above that of guessing.
        ruined: Whether the network was spoilt, so that the run began again though it had learned
            something; it must come to more than that.
    """

    before: Level
    probation_steps: int
    pace: float = 0.0
    fresh: bool = False
    must_improve: bool = False
    first: float = 0.0
    overshot: bool = False
    ruined: bool = False


def width(probation_steps: int) -> int:
    """Return over how many steps a level is taken: half a probation, the other half is settling."""
    return max(1, probation_steps // 2)


def first_loss(history: History) -> float:
    """Return the loss of the first step; infinite where it was not finite, 0 where unknown."""
    losses = history[LOSS].values
    first = float(losses[0]) if len(losses) else 0.0
    return first if math.isfinite(first) else math.inf


def rows_before(history: History, remedy: Remedy, step: int, probation_steps: int) -> Any:
    """Return the values of the signal that the remedy is judged by, before it."""
    rows = width(probation_steps) if remedy.watched == LOSS else VALIDATIONS
    return history[remedy.watched].until(max(1, step)).tail(rows).values


def level_of_state(run: Run, state: Snapshot, probation_steps: int, *, fresh: bool) -> Level:
    """Return where the loss was when ``state`` was taken; of fresh weights, that of guessing."""
    untrained = untrained_loss(run.history)
    if fresh and untrained is not None:
        return Level.of([untrained])
    return Level.of(run.history[LOSS].until(max(1, state.step)).tail(width(probation_steps)).values)


def pace_before(history: History, remedy: Remedy, step: int, probation_steps: int) -> float:
    """Return by how much the watched signal changes a row at its present pace, if not by chance.

    A training loss that rises is to be brought down, not to rise less.
    """
    before = history[remedy.watched].until(max(1, step)).finite
    if remedy.watched != LOSS:
        recent = before.tail(2 * VALIDATIONS).values
        return float(theil_sen(recent)) if len(recent) >= VALIDATIONS else 0.0
    gone = progress(before.tail(probation_steps).values)
    return min(0.0, gone.slope * gone.scale)
