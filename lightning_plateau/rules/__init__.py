"""Rules: History in, Finding out. One file, one rule; the file is named after the fault."""

from __future__ import annotations

import sys
from functools import cache

from lightning_plateau.core.catalogue import found_under
from lightning_plateau.core.rule import Rule


@cache
def catalogue() -> tuple[type[Rule], ...]:
    """Return every rule of the library in order of its code.

    Example:
        >>> [rule.code for rule in catalogue()][:2]
        ['LP101', 'LP102']
    """
    return tuple(sorted(found_under(sys.modules[__name__], Rule), key=lambda rule: rule.code))
