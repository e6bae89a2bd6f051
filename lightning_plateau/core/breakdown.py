"""Where a training first ceased to be finite: in the loss, the gradients or the parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.signal import (
    DATA_NON_FINITE,
    GRADIENT_NORM,
    LEARNING_RATES,
    LOSS,
    LOSS_SCALE,
    PARAMETER_NORMS,
)

CODES = {"loss": "LP201", "gradients": "LP202", "parameters": "LP203"}
"""The symptom that each part shows."""

ROWS_TO_RECOVER = 100
SHARE_TO_RECOVER = 0.01


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The steps at which loss, gradients and parameters were first not finite; None where they are.

    What broke once and has been finite ever since (100 steps, and less than 1 % of the run lost)
    counts as finite: somebody skipped a bad batch.

    Attributes:
        loss: First step whose loss was NaN or infinite.
        gradients: First step with such a gradient.
        parameters: First sampled step after which a parameter was such.

    Example:
        >>> first = Breakdown(loss=8, gradients=7, parameters=10)
        >>> first.origin, first.explained_by("gradients"), first.explained_by("loss")
        ('gradients', ('LP201', 'LP203'), ())
    """

    loss: int | None = None
    gradients: int | None = None
    parameters: int | None = None

    @property
    def _in_order(self) -> tuple[str, ...]:
        # Within one step the loss comes first, then the gradients, then the update.
        found = [(getattr(self, part.name), part.name) for part in fields(self)]
        return tuple(name for step, name in sorted(found, key=_by_step) if step is not None)

    @property
    def origin(self) -> str | None:
        """What broke first, by the name of its attribute; None where all is finite."""
        return next(iter(self._in_order), None)

    @property
    def step(self) -> int | None:
        """Step at which the first part broke; None where all is finite."""
        return None if self.origin is None else int(getattr(self, self.origin))

    def explained_by(self, part: str) -> tuple[str, ...]:
        """Return the codes of the parts that broke after ``part``; none where it was not first."""
        return tuple(CODES[later] for later in self._in_order[1:]) if part == self.origin else ()


def _by_step(found: tuple[int | None, str]) -> float:
    return float("inf") if found[0] is None else float(found[0])


@derived
def breakdown(history: History) -> Breakdown:
    """Return where ``history`` first ceased to be finite.

    Under a gradient scaler, gradients that overflow now and then are how the scale is found; they
    count only where they are not finite to the end.

    Example:
        >>> from lightning_plateau.testing import history
        >>> nan = float("nan")
        >>> breakdown(history({GRADIENT_NORM: [1, nan, nan]}, loss=[1, 1, nan]))
        Breakdown(loss=2, gradients=1, parameters=None)
    """
    loss = _first_broken(seen_losses(history))
    gradients = _first_broken(history[GRADIENT_NORM], only_to_the_end=loss_is_scaled(history))
    parameters = None
    if loss is not None or gradients is not None or np.isinf(history[PARAMETER_NORMS].values).any():
        parameters = _first_broken(history[PARAMETER_NORMS])
    return Breakdown(loss, gradients, parameters)


LEAST_BEFORE = 5
"""Finite steps before a breakdown that tell what they were like."""
MOST_GROWTH = 2.0
"""Factor by which the last value before a breakdown may exceed the largest before it."""


@derived
def broke_suddenly(history: History) -> bool:
    """Whether the loss broke at a step before which weights and gradients were sound, as its data.

    A loss or gradient that had grown may mean that the weights were about to overflow.

    Example:
        >>> broke_suddenly(History())
        False
    """
    broke = breakdown(history)
    if broke.origin != "loss" or broke.loss is None or loss_is_scaled(history):
        return False
    before = [history[s].until(broke.loss) for s in (LOSS, GRADIENT_NORM, LEARNING_RATES)]
    if not all(_steady(one) for one in before) or len(before[1]) < LEAST_BEFORE:
        return False
    data = history[DATA_NON_FINITE].since(broke.loss).until(broke.loss + 1)
    return len(data) > 0 and not bool((data.values > 0).any())


def _steady(seen: Series) -> bool:
    """Whether the last values are finite and not far beyond the largest before them."""
    if len(seen) < 2 or not np.isfinite(seen.values).all():
        return False
    rows = np.abs(seen.values)
    return bool((rows[-1] <= MOST_GROWTH * rows[:-1].max(axis=0)).all())


def loss_is_scaled(history: History) -> bool:
    """Whether a gradient scaler is at work, which makes gradients overflow on purpose.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> loss_is_scaled(History(profile=Profile(precision="16-mixed")))
        True
    """
    return LOSS_SCALE in history or history.profile.precision in ("16-mixed", "16")


@derived
def seen_losses(history: History) -> Series:
    """Return the losses without those that nobody saw.

    A loss that the recorder could not see (a backward outside Lightning) reads as NaN, but then its
    gradients are finite, which those of a loss that *was* NaN hardly ever are.

    Example:
        >>> from lightning_plateau.testing import history
        >>> nan = float("nan")
        >>> seen_losses(history({GRADIENT_NORM: [1, 1, nan]}, loss=[1, nan, nan])).steps.tolist()
        [0, 2]
    """
    loss, gradient = history[LOSS], history[GRADIENT_NORM].finite
    unseen = np.isnan(loss.values) & np.isin(loss.steps, gradient.steps[gradient.values > 0])
    return Series(loss.signal, loss.steps[~unseen], loss.values[~unseen])


def broken_rows(series: Series) -> NDArray[np.bool_]:
    """Return for each row of ``series`` whether it is not finite, bool ``[n]``.

    In a row with columns, NaN counts only where the column was finite before: NaN also stands for
    what was never recorded. Columns that were never finite count where no column ever was.
    """
    finite: NDArray[np.bool_] = np.isfinite(series.values)
    if finite.ndim == 1:
        return np.logical_not(finite)
    started = np.logical_or.accumulate(finite, axis=0) if finite.any() else ~finite
    lost = np.logical_and(started, np.logical_not(finite))
    infinite: NDArray[np.bool_] = np.isinf(series.values)
    return np.asarray(np.logical_or(lost, infinite).any(axis=1))


def _first_broken(series: Series, *, only_to_the_end: bool = False) -> int | None:
    broken = broken_rows(series)
    where = np.flatnonzero(broken)
    if not len(where):
        return None
    since = len(broken) - 1 - int(where[-1])
    if since >= ROWS_TO_RECOVER and len(where) < SHARE_TO_RECOVER * len(broken):
        return None
    if not only_to_the_end:
        return int(series.steps[where[0]])
    if since:
        return None
    whole = np.flatnonzero(~broken)
    return int(series.steps[whole[-1] + 1 if len(whole) else 0])
