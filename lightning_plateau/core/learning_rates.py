"""What the schedule of the learning rate is doing."""

from __future__ import annotations

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.signal import LEARNING_RATES, LOSS


@derived
def _largest_rates(history: History) -> tuple[Floats, Floats]:
    """Return the steps and the largest rate of any group at each, rows without one left out."""
    series = history[LEARNING_RATES]
    if not series.labels or not len(series):
        return np.empty(0), np.empty(0)
    rates = np.where(np.isfinite(series.values), series.values, -np.inf).max(axis=1)
    known = np.isfinite(rates)
    return series.steps[known].astype(np.float64), rates[known]


@derived
def warming_up(history: History) -> bool:
    """Whether the learning rate is still on its way up.

    It is where its last change was upward, to the highest rate so far, and no longer ago than two
    usual pauses between changes.

    Example:
        >>> from lightning_plateau.testing import history
        >>> ramp = [0.001 * step for step in range(1, 31)]
        >>> warming_up(history({LEARNING_RATES: {"0": ramp}}, loss=[1.0] * 30))
        True
        >>> warming_up(history({LEARNING_RATES: {"0": [0.1]}}, loss=[1.0] * 30))
        False
    """
    steps, rates = _largest_rates(history)
    if len(rates) < 2:
        return False
    moved = np.flatnonzero(~np.isclose(rates[1:], rates[:-1], rtol=1e-9, atol=0.0)) + 1
    if not len(moved) or rates[moved[-1]] < rates.max() or rates[moved[-1]] <= rates[moved[-1] - 1]:
        return False
    pauses = np.diff(np.concatenate([steps[:1], steps[moved]]))
    return bool(_now(history) - steps[moved[-1]] <= 2 * float(np.median(pauses)))


@derived
def rises_throughout(history: History) -> bool:
    """Whether the learning rate has risen, and has never been lower than before.

    Example:
        >>> from lightning_plateau.testing import history
        >>> rises_throughout(history({LEARNING_RATES: {"0": [0.1, 0.1, 0.2, 0.3]}}))
        True
        >>> rises_throughout(history({LEARNING_RATES: {"0": [0.1, 0.2, 0.3, 0.2]}}))
        False
    """
    _, rates = _largest_rates(history)
    return len(rates) > 1 and bool(rates[-1] > rates[0] and (np.diff(rates) >= 0).all())


@derived
def since_warm_up(history: History) -> int:
    """Return the step at which the learning rate first reached half of its highest value so far."""
    steps, rates = _largest_rates(history)
    if not len(rates) or rates.max() <= 0:
        return 0
    return int(steps[int(np.argmax(rates >= rates.max() / 2))])


def share_of_peak(history: History) -> float:
    """Return the learning rate now as a share of its highest value; 1 where unknown.

    Example:
        >>> from lightning_plateau.testing import history
        >>> share_of_peak(history({LEARNING_RATES: {"0": [0.5, 0.25, 0.125]}}))
        0.25
    """
    _, rates = _largest_rates(history)
    if not len(rates) or rates.max() <= 0:
        return 1.0
    return float(rates[-1] / rates.max())


def spent_at(history: History, share: float) -> int | None:
    """Return the step since which the learning rate has stayed at ``share`` of its peak or below.

    None where it is above, and where it never moved.

    Example:
        >>> from lightning_plateau.testing import history
        >>> spent_at(history({LEARNING_RATES: {"0": [0.5, 0.1, 0.005, 0.001]}}), 0.01)
        2
    """
    steps, rates = _largest_rates(history)
    if not len(rates) or rates.max() <= 0 or rates[-1] > share * rates.max():
        return None
    above = np.flatnonzero(rates > share * rates.max())
    return int(steps[above[-1] + 1])


def _now(history: History) -> float:
    losses = history[LOSS].steps
    return float(losses[-1]) if len(losses) else float(history.step)
