"""Remedies: Finding in, change out. One file, one remedy; the file is named after what it does."""

from __future__ import annotations

import sys
from functools import cache

from lightning_plateau.core.catalogue import found_under
from lightning_plateau.core.remedy import Remedy, Safety

_RISK = {Safety.SAFE: 0, Safety.UNSAFE: 1, Safety.ADVICE: 2}


@cache
def catalogue() -> tuple[type[Remedy], ...]:
    """Return every remedy of the library, the least risky first, then by name.

    Example:
        >>> str(catalogue()[0].safety), str(catalogue()[-1].safety)
        ('safe', 'unsafe')
    """
    found = found_under(sys.modules[__name__], Remedy)
    return tuple(sorted(found, key=lambda remedy: (_RISK[remedy.safety], remedy.name)))


def by_name() -> dict[str, type[Remedy]]:
    """Return every remedy of the library by its name."""
    return {remedy.name: remedy for remedy in catalogue()}
