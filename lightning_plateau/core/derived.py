"""Derived values: what follows from an immutable object, worked out once and kept with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T", bound="Derivable")
R = TypeVar("R")


class Derivable:
    """An immutable object that keeps what was derived from it, for as long as it lives.

    What is kept is no part of its value: copies, files and comparisons know nothing of it.
    """

    __slots__ = ("_derived",)

    _derived: dict[Callable[..., Any], Any]


def derived(function: Callable[[T], R]) -> Callable[[T], R]:
    """Work out a pure function once for each object it is asked of.

    A history is asked by some seventy rules, and many of them begin with the same question. What
    the function returns must never be changed by its callers. Two threads may both work it out;
    they come to the same.

    Example:
        >>> class Number(Derivable):
        ...     def __init__(self, value: int) -> None:
        ...         self.value = value
        >>> @derived
        ... def squared(number: Number) -> int:
        ...     print("working")
        ...     return number.value**2
        >>> three = Number(3)
        >>> squared(three), squared(three)
        working
        (9, 9)
    """

    @wraps(function)
    def once(of: T) -> R:
        try:
            known = of._derived
        except AttributeError:  # frozen dataclasses have no place to make it
            known = {}
            object.__setattr__(of, "_derived", known)
        if function in known:
            kept: R = known[function]
            return kept
        found = known[function] = function(of)
        return found

    return once
