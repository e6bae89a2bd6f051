"""Whether a reshape keeps the order of dimensions, or stands where a transposition was meant."""

from __future__ import annotations

from itertools import accumulate, pairwise, permutations
from math import prod
from operator import mul

MOST_DIMENSIONS = 5
"""Dimensions of more than one place that are tried in every order."""


def straddles(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether places of ``after`` run across places of ``before``, however dimensions are split.

    Merging neighbouring dimensions and splitting single ones keeps their order. Where neither of
    two numbers of leading elements divides the other, no such way leads from one shape to another.

    Example:
        >>> straddles((32, 10, 8), (320, 8)), straddles((32, 10, 8), (10, 32, 8))
        (False, True)
    """
    if 0 in before or prod(before) != prod(after):
        return False
    edges = sorted({*accumulate(before, mul), *accumulate(after, mul)})
    return any(edge % inner for inner, edge in pairwise(edges))


def transposed(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the order of ``before`` whose neighbours merge to ``after``; None where there is none.

    Dimensions of one place do not count, neither here nor in what is returned: positions among the
    others.

    Example:
        >>> transposed((32, 10, 8), (10, 32, 8)), transposed((16, 3, 7, 7), (784, 3))
        ((1, 0, 2), (0, 2, 3, 1))
    """
    sizes = tuple(size for size in before if size != 1)
    wanted = tuple(size for size in after if size != 1)
    if not 2 <= len(sizes) <= MOST_DIMENSIONS:
        return None
    orders = (order for order in permutations(range(len(sizes))) if order != tuple(sorted(order)))
    return next((o for o in orders if _merge(tuple(sizes[place] for place in o), wanted)), None)


def _merge(sizes: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether neighbours among ``sizes`` multiply to ``wanted``."""
    return set(accumulate(wanted, mul)) <= set(accumulate(sizes, mul)) and len(wanted) > 1
