"""Series of numbers as float64: without what is not finite, of one scale."""

import math
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@overload
def finite(values: ArrayLike, /) -> FloatArray: ...


@overload
def finite(
    values: ArrayLike, other: ArrayLike, /, *others: ArrayLike
) -> tuple[FloatArray, ...]: ...


def finite(values: ArrayLike, /, *others: ArrayLike) -> FloatArray | tuple[FloatArray, ...]:
    """Drop every row in which any of the series is NaN or infinite.

    Args:
        values: Series of shape ``(n,)``.
        *others: Series paired with it, row by row.

    Returns:
        One array for one series; a tuple of arrays of equal length for several.

    Example:
        >>> finite([1.0, float("nan"), 3.0]).tolist()
        [1.0, 3.0]
        >>> steps, losses = finite([0, 1, 2], [5.0, float("inf"), 4.0])
        >>> steps.tolist(), losses.tolist()
        ([0.0, 2.0], [5.0, 4.0])
    """
    columns = [flat(column) for column in (values, *others)]
    length = min(column.size for column in columns)
    columns = [column[:length] for column in columns]
    keep = np.isfinite(columns[0])
    for column in columns[1:]:
        keep &= np.isfinite(column)
    kept = tuple(column[keep] for column in columns)
    return kept if others else kept[0]


def flat(values: ArrayLike) -> FloatArray:
    """Return a flat float64 copy of any real array-like."""
    with np.errstate(all="ignore"):
        return np.array(values, dtype=np.float64).reshape(-1)


def to_unit_scale(series: FloatArray) -> tuple[FloatArray, int]:
    """Scale finite values by the power of two that puts the greatest in [½, 1)."""
    if series.size == 0:
        return series, 0
    exponent = math.frexp(float(np.abs(series).max()))[1]
    return np.ldexp(series, -exponent), exponent


def rescaled(value: float, exponent: int) -> float:
    """Undo ``to_unit_scale`` for a value of its unit."""
    with np.errstate(all="ignore"):
        return float(np.ldexp(value, exponent))


def clip(value: float, low: float, high: float) -> float:
    """Cut off what rounding puts beyond a bound; unlike with min and max, NaN stays NaN."""
    return float(np.clip(value, low, high))
