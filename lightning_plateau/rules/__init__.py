"""Rules: History in, Finding out. One file, one rule; the file is named after the fault."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from inspect import isabstract
from types import ModuleType

from lightning_plateau.core.rule import Rule


def rules_in(module: ModuleType) -> tuple[type[Rule], ...]:
    """Return the concrete rules that ``module`` itself defines."""
    return tuple(
        member
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, Rule)
        and not isabstract(member)
        and member.__module__ == module.__name__
    )


@cache
def catalogue() -> tuple[type[Rule], ...]:
    """Return every rule of the library in order of its code.

    Example:
        >>> [rule.code for rule in catalogue()][:2]
        ['LP101', 'LP102']
    """
    found = [
        rule
        for module in pkgutil.iter_modules(__path__)
        for rule in rules_in(import_module(f"{__name__}.{module.name}"))
    ]
    return tuple(sorted(found, key=lambda rule: rule.code))
