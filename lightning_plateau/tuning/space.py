"""What is searched: names of settings, each with the values that it may take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import Trial

Values = dict[str, Any]


@dataclass(frozen=True)
class Dimension:
    """One setting and the values that it may take.

    Attributes:
        distribution: Optuna's distribution of its values.
        widest: Lowest and highest value up to which the search may widen it; None where the range
            is the user's own, which is kept.
        optional: Whether it is left out where the training has no such setting.
    """

    distribution: BaseDistribution
    widest: tuple[float, float] | None = None
    optional: bool = False

    @classmethod
    def of(cls, given: Any) -> Dimension:
        """Return the dimension that ``given`` stands for.

        Args:
            given: A dimension, a distribution of Optuna, or the list of the values themselves.

        Raises:
            ValueError: If it is none of these.
        """
        match given:
            case Dimension():
                return given
            case BaseDistribution():
                return cls(given)
            case list() | tuple() if given:
                return cls(CategoricalDistribution(list(given)))
        raise ValueError(
            "expected a distribution of optuna.distributions or a list of values, but received "
            f"{given!r}"
        )

    def suggest(self, trial: Trial, name: str) -> Any:
        """Return the value that the sampler chooses for ``trial``."""
        match self.distribution:
            case FloatDistribution(low=low, high=high, step=step, log=log):
                return trial.suggest_float(name, low, high, step=step, log=log)
            case IntDistribution(low=low, high=high, step=step, log=log):
                return trial.suggest_int(name, int(low), int(high), step=int(step), log=log)
            case CategoricalDistribution(choices=choices):
                return trial.suggest_categorical(name, choices)
        raise TypeError(f"{name}: {self.distribution!r} is no distribution that can be suggested")

    def points(self, count: int) -> list[Any]:
        """Return ``count`` values for a grid, evenly spaced; all of them where there is a list."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return list(choices)
            case FloatDistribution(low=low, high=high, log=log):
                return [float(value) for value in _spaced(low, high, count, log)]
            case IntDistribution(low=low, high=high, step=step, log=log):
                raw = _spaced(low, high, count, log)
                return sorted({low + step * round((value - low) / step) for value in raw})
        return []


def _spaced(low: float, high: float, count: int, log: bool) -> Sequence[float]:
    """Return the middles of ``count`` equal parts of the range."""
    shares = (np.arange(count) + 0.5) / count
    if log:
        return list(np.exp(math.log(low) + shares * (math.log(high) - math.log(low))))
    return list(low + shares * (high - low))


@dataclass(frozen=True)
class Space:
    """Settings by name, each with the values that it may take.

    Names are those of the training: arguments of the module's or the datamodule's constructor, of
    the Trainer, or one of the words ``learning_rate``, ``weight_decay``, ``optimizer``,
    ``schedule``, ``batch_size`` and ``epochs``. A path says it exactly: ``model.width``,
    ``data.batch_size``, ``trainer.precision``, ``optimizer.momentum``.

    Example:
        >>> space = Space.of({"width": [32, 64], "learning_rate": FloatDistribution(1e-4, 1.0)})
        >>> list(space.dimensions)
        ['width', 'learning_rate']
    """

    dimensions: Mapping[str, Dimension]

    @classmethod
    def of(cls, given: Any) -> Space:
        """Return the space that ``given`` stands for: a space, or settings by name.

        Raises:
            ValueError: If it is neither, or empty.
        """
        if isinstance(given, Space):
            return given
        if not isinstance(given, Mapping) or not given:
            raise ValueError(f"expected a space or settings by name, but received {given!r}")
        return cls({str(name): Dimension.of(values) for name, values in given.items()})

    def suggest(self, trial: Trial) -> Values:
        """Return the values that the sampler chooses for ``trial``."""
        return {name: one.suggest(trial, name) for name, one in self.dimensions.items()}

    def having(self, name: str, distribution: BaseDistribution) -> Space:
        """Return the space with other values of one setting; it is added where it was not there."""
        known = self.dimensions.get(name, Dimension(distribution))
        return Space({**self.dimensions, name: replace(known, distribution=distribution)})

    def only(self, names: Sequence[str]) -> Space:
        """Return the space without the settings that are not named."""
        return Space({name: one for name, one in self.dimensions.items() if name in names})

    def __or__(self, other: Space) -> Space:
        return Space({**self.dimensions, **other.dimensions})

    def grid(self, n_trials: int) -> dict[str, list[Any]]:
        """Return the points of a grid of at most ``n_trials`` where that can be.

        Every list is taken whole; ranges share what is left, two points each at least.

        Example:
            >>> Space.of({"a": [1, 2], "b": FloatDistribution(0.0, 1.0)}).grid(8)
            {'a': [1, 2], 'b': [0.125, 0.375, 0.625, 0.875]}
        """
        lists = [
            len(one.distribution.choices)
            for one in self.dimensions.values()
            if isinstance(one.distribution, CategoricalDistribution)
        ]
        ranges = max(1, len(self.dimensions) - len(lists))
        share = max(1.0, n_trials / math.prod(lists)) ** (1 / ranges)
        count = max(2, math.floor(share + 1e-9))
        return {name: one.points(count) for name, one in self.dimensions.items()}

    def to_json(self) -> str:
        """Return the space as text; ``from_json`` reads it."""
        return json.dumps(
            {
                name: [distribution_to_json(one.distribution), one.widest, one.optional]
                for name, one in self.dimensions.items()
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Space:
        """Return the space that ``to_json`` wrote."""
        return cls(
            {
                name: Dimension(json_to_distribution(written), widest and tuple(widest), optional)
                for name, (written, widest, optional) in json.loads(text).items()
            }
        )
