"""Experiments: short active tests on a copy of the training. One file, one experiment."""

from __future__ import annotations

import sys
from functools import cache

from lightning_plateau.core.catalogue import found_under
from lightning_plateau.experiments.experiment import Experiment


@cache
def catalogue() -> tuple[type[Experiment], ...]:
    """Return every experiment of the library, the cheapest first.

    Example:
        >>> catalogue()[0].name
        'gradient-flow'
    """
    found = found_under(sys.modules[__name__], Experiment)
    return tuple(sorted(found, key=lambda experiment: (experiment.cost, experiment.name)))


def by_name() -> dict[str, type[Experiment]]:
    """Return every experiment of the library by its name."""
    return {experiment.name: experiment for experiment in catalogue()}
