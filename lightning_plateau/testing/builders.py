"""Builders of small histories from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightning_plateau.core.history import History, Series
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import LOSS, Signal
from lightning_plateau.core.tape import Tape

Values = Sequence[float] | np.ndarray[Any, Any]


def history(
    series: Mapping[Signal, Values | Mapping[str, Values]] | None = None,
    *,
    loss: Values | None = None,
    every: int = 1,
    profile: Profile | None = None,
    tapes: Sequence[Tape] = (),
    step: int | None = None,
    epoch_ends: Sequence[int] = (),
    finished: bool = False,
) -> History:
    """Build a history from plain numbers.

    Args:
        series: Values by signal: a sequence for a scalar signal, a mapping from label to sequence
            for one with columns. Signals of cadence ``"step"`` lie at steps 0, 1, 2 …; the others
            at 0, ``every``, 2·``every`` ….
        loss: Training losses, short for ``{LOSS: loss}``.
        every: Steps between the rows of signals that are not recorded on each step.
        profile: Facts of the run; the default is an empty profile.
        tapes: Tapes, in order of their steps.
        step: Number of steps made; by default that of the longest series.
        epoch_ends: Steps at which epochs ended.
        finished: Whether the training has ended as planned.

    Example:
        >>> made = history(loss=[3.0, 2.0, 1.0])
        >>> made.step, made[LOSS].last
        (3, 1.0)
    """
    given = dict(series or {})
    if loss is not None:
        given[LOSS] = loss
    built = {}
    longest = 0
    for signal, values in given.items():
        stride = 1 if signal.cadence == "step" else every
        if isinstance(values, Mapping):
            labels = tuple(values)
            columns = [np.asarray(column, dtype=np.float64) for column in values.values()]
            array = np.stack(columns, axis=1) if columns else np.empty((0, 0))
        else:
            labels, array = (), np.asarray(values, dtype=np.float64)
        steps = np.arange(len(array), dtype=np.int64) * stride
        longest = max(longest, int(steps[-1]) + 1 if len(steps) else 0)
        built[signal.tag] = Series(signal, steps, array, labels)
    return History(
        series=built,
        profile=profile or Profile(),
        tapes=tuple(tapes),
        step=longest if step is None else step,
        epoch_ends=tuple(epoch_ends),
        finished=finished,
    )
