"""The catalogue of a folder: what its files define of one kind, found without a registry."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from inspect import isabstract
from types import ModuleType
from typing import TypeVar

Kind = TypeVar("Kind")


def defined_in(module: ModuleType, kind: type[Kind]) -> tuple[type[Kind], ...]:
    """Return the concrete classes of ``kind`` that ``module`` itself defines, as they stand in it.

    What it only imports belongs to another file.
    """
    return tuple(
        member
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, kind)
        and not isabstract(member)
        and member.__module__ == module.__name__
    )


def found_under(package: ModuleType, kind: type[Kind]) -> list[type[Kind]]:
    """Return the concrete classes of ``kind`` in every file of ``package``, in the files' order."""
    return [
        member
        for file in pkgutil.iter_modules(package.__path__)
        for member in defined_in(import_module(f"{package.__name__}.{file.name}"), kind)
    ]
