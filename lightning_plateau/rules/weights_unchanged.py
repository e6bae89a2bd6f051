"""LP412: steps are made, but no weight changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    GRADIENT_NORM,
    INITIAL_NORMS,
    LEARNING_RATES,
    PARAMETER_NORMS,
    SKIPPED_STEPS,
    UNANSWERED_BACKWARDS,
    UPDATE_RATIOS,
)


@dataclass(frozen=True)
class WeightsUnchanged(Rule):
    """Steps are made, but no weight changes.

    What it detects:
        Not one parameter moved on any of the sampled steps (three at least), though there was a
        finite gradient other than zero and the step was not skipped: a learning rate of zero, an
        update below the resolution of the type, or an optimizer whose step changes nothing. Where a
        schedule begins at zero, its first epoch is waited for; where the run ends with it, the
        fault is certain. Or no optimizer step was seen in the whole run, though backward ran on
        many batches, and the weights are what they were.

    Why it matters:
        Nothing is learned, while everything looks as if it were running.

    Example:
        >>> from lightning_plateau.testing import history
        >>> still = {UPDATE_RATIOS: {"fc.weight": [0.0] * 3}, LEARNING_RATES: {"0": [0.0]}}
        >>> run = history({**still, GRADIENT_NORM: [1.0] * 3}, loss=[2.3] * 3)
        >>> WeightsUnchanged().check(run).message
        'no parameter moved on 3 steps, though each had a gradient: the learning rate is 0'

    Remedies:
        raise-learning-rate, where the user set none on purpose.

    Known limitations:
        Up to 2,048 elements of each parameter are compared. Parameters that move on some steps
        only (LoRA merged by hand, lookahead) are not unchanged.

    References:
        Jiang et al., 2025, Training with Confidence: Catching Silent Errors in Deep Learning
        Training with Automated Proactive Checks (OSDI).
    """

    code: ClassVar[str] = "LP412"
    name: ClassVar[str] = "weights-unchanged"
    requires: ClassVar = (
        UPDATE_RATIOS,
        GRADIENT_NORM,
        LEARNING_RATES,
        SKIPPED_STEPS,
        INITIAL_NORMS,
        PARAMETER_NORMS,
        UNANSWERED_BACKWARDS,
    )
    explains: ClassVar = (
        "LP104",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP408",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("raise-learning-rate",)
    why: ClassVar[str] = "the gradients are computed, and nothing is made of them"

    minimum_rows: int = 3
    rows_of_a_run: int = 5
    minimum_backwards: int = 16

    def check(self, history: History) -> Finding | None:
        """Return the fault where no parameter ever moved, though it should have."""
        if history.step == 0:
            return self._never_stepped(history)
        updates = history[UPDATE_RATIOS]
        # What is NaN was not measured; an infinite ratio is a parameter that moved from zero.
        if not (np.isnan(updates.values) | (updates.values == 0.0)).all():
            return None
        rows = updates.where(np.isin(updates.steps, _steps_that_should_move(history)))
        if len(rows) < self.minimum_rows or not np.isfinite(updates.values).any():
            return None
        if history.profile.schedulers and not (history.epoch_ends or history.finished):
            return None
        rate = _largest_rate(history, int(rows.steps[-1]))
        zero = rate == 0.0
        # A schedule may still leave zero, unless the run is over; a rehearsal of few steps is none.
        waited = history.finished and len(rows) >= self.rows_of_a_run
        return self.finding(
            history,
            1.0 if zero and (waited or not history.profile.schedulers) else 0.95,
            f"no parameter moved on {len(rows)} steps, though each had a gradient"
            + (f": the learning rate is {rate:.3g}" if np.isfinite(rate) else ""),
            evidence=(Evidence("largest update over the weights", 0.0, 0.0),),
            fix=_fix(zero, scheduled=bool(history.profile.schedulers)),
        )

    def _never_stepped(self, history: History) -> Finding | None:
        """Return the fault where a whole run went by without a step."""
        ran = history[UNANSWERED_BACKWARDS].last
        first, last = history[INITIAL_NORMS], history[PARAMETER_NORMS]
        if not ran >= self.minimum_backwards or not len(first) or first.labels != last.labels:
            return None
        if not np.array_equal(first.last_row, last.last_row, equal_nan=True):
            return None
        return self.finding(
            history,
            1.0,
            f"backward ran {ran:.0f} times, and no optimizer made a step: the weights are what "
            "they were",
            evidence=(Evidence("optimizer steps", 0.0, 1.0),),
            fix="call self.optimizers().step() after self.manual_backward(loss), and zero_grad() "
            "before it",
            step=0,
        )


def _steps_that_should_move(history: History) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the steps with a finite gradient other than zero that were not skipped."""
    gradient = history[GRADIENT_NORM].finite
    skipped = history[SKIPPED_STEPS]
    left_out = skipped.steps[skipped.values != 0.0]
    given = gradient.steps[gradient.values > 0.0]
    return np.asarray(given[~np.isin(given, left_out)], dtype=np.int64)


def _largest_rate(history: History, step: int) -> float:
    """Return the largest rate of any group up to ``step``; NaN where none was recorded.

    What a schedule sets after the last step was never used.
    """
    rates = history[LEARNING_RATES].until(step + 1).values
    known = rates[np.isfinite(rates)]
    return float(known.max()) if len(known) else float("nan")


def _fix(zero: bool, *, scheduled: bool) -> str:
    if not zero:
        return (
            "look whether the optimizer's step runs, holds these parameters and not copies, and is "
            "not below the resolution of their type"
        )
    if scheduled:
        return "mend the schedule: it multiplies the learning rate by 0"
    return "set a learning rate: 1e-3 with Adam, for one"
