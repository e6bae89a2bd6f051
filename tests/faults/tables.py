"""Tables in Markdown, for the terminal and for the documentation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers included as they are.

    Example:
        >>> print(table(["fault", "runs"], [["LP701", "4"]]))
        | fault | runs |
        | --- | --- |
        | LP701 | 4 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(value: float) -> str:
    """Return a share in per cent; a dash where it is unknown.

    Example:
        >>> share(0.9876), share(float("nan"))
        ('98.8 %', '–')
    """
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def number(value: float, digits: int = 2) -> str:
    """Return a number with so many digits; a dash where it is unknown."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
