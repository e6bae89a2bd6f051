"""Experiments: short active tests on a copy of the training. One file, one experiment."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from inspect import isabstract
from types import ModuleType

from lightning_plateau.experiments.experiment import Experiment


def experiments_in(module: ModuleType) -> tuple[type[Experiment], ...]:
    """Return the concrete experiments that ``module`` itself defines."""
    return tuple(
        member
        for member in vars(module).values()
        if isinstance(member, type)
        and issubclass(member, Experiment)
        and not isabstract(member)
        and member.__module__ == module.__name__
    )


@cache
def catalogue() -> tuple[type[Experiment], ...]:
    """Return every experiment of the library, the cheapest first.

    Example:
        >>> catalogue()[0].name
        'gradient-flow'
    """
    found = [
        experiment
        for module in pkgutil.iter_modules(__path__)
        for experiment in experiments_in(import_module(f"{__name__}.{module.name}"))
    ]
    return tuple(sorted(found, key=lambda experiment: (experiment.cost, experiment.name)))


def by_name() -> dict[str, type[Experiment]]:
    """Return every experiment of the library by its name."""
    return {experiment.name: experiment for experiment in catalogue()}
