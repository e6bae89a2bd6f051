"""Columns of a series, all at once: what a rule asks of each layer, as one answer by label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, Series


@derived
def first_known(series: Series) -> Mapping[str, float]:
    """Return the first finite value of each column, by its label; columns without one are left out.

    Example:
        >>> from lightning_plateau.core.signal import PARAMETER_NORMS
        >>> nan = float("nan")
        >>> rows = np.array([[1.0, nan, nan], [2.0, 3.0, nan]])
        >>> sorted(first_known(Series(PARAMETER_NORMS, np.arange(2), rows, tuple("abc"))).items())
        [('a', 1.0), ('b', 3.0)]
    """
    return _first_of(series, series.values)


@derived
def last_known(series: Series) -> Mapping[str, float]:
    """Return the last finite value of each column, by its label; columns without one are left out.

    Example:
        >>> from lightning_plateau.core.signal import PARAMETER_NORMS
        >>> rows = np.array([[1.0, 3.0], [2.0, float("inf")]])
        >>> sorted(last_known(Series(PARAMETER_NORMS, np.arange(2), rows, tuple("ab"))).items())
        [('a', 2.0), ('b', 3.0)]
    """
    return _first_of(series, series.values[::-1])


def _first_of(series: Series, rows: Floats) -> Mapping[str, float]:
    if not len(rows):
        return {}
    found = rows[0]
    known = np.isfinite(found)
    if not known.all():  # seldom: further rows are looked at only then
        finite = np.isfinite(rows)
        found = rows[finite.argmax(axis=0), np.arange(rows.shape[1])]
        known = finite.any(axis=0)
    values, sure = found.tolist(), known.tolist()
    return {label: values[place] for label, place in series.places.items() if sure[place]}
