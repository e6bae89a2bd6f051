"""Remedies: Finding in, change out. One file, one remedy; the file is named after what it does."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from inspect import isabstract
from types import ModuleType

from lightning_plateau.core.remedy import Remedy, Safety

_RISK = {Safety.SAFE: 0, Safety.UNSAFE: 1, Safety.ADVICE: 2}


def remedies_in(module: ModuleType) -> tuple[type[Remedy], ...]:
    """Return the concrete remedies that ``module`` itself defines."""
    return tuple(
        member
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, Remedy)
        and not isabstract(member)
        and member.__module__ == module.__name__
    )


@cache
def catalogue() -> tuple[type[Remedy], ...]:
    """Return every remedy of the library, the least risky first, then by name.

    Example:
        >>> str(catalogue()[0].safety), str(catalogue()[-1].safety)
        ('safe', 'unsafe')
    """
    found = [
        remedy
        for module in pkgutil.iter_modules(__path__)
        for remedy in remedies_in(import_module(f"{__name__}.{module.name}"))
    ]
    return tuple(sorted(found, key=lambda remedy: (_RISK[remedy.safety], remedy.name)))


def by_name() -> dict[str, type[Remedy]]:
    """Return every remedy of the library by its name."""
    return {remedy.name: remedy for remedy in catalogue()}
