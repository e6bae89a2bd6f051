"""How the next trial is chosen: Optuna's samplers by our names."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import numpy as np
import optuna
from optuna.samplers import (
    BaseSampler,
    GridSampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from lightning_plateau.tuning.space import Space

SamplerName = Literal["grid", "random", "bayesian", "quasi-random"]


def make_sampler(
    name: SamplerName | BaseSampler, space: Space, *, n_trials: int, seed: int, worker: int = 0
) -> BaseSampler:
    """Return a sampler of Optuna.

    Args:
        name: ``"grid"``, ``"random"``, ``"bayesian"`` (tree-structured Parzen estimator, Bergstra
            et al., 2011), ``"quasi-random"`` (a scrambled Sobol sequence), or a sampler.
        space: What is searched.
        n_trials: Trials that are planned.
        seed: Seed of the study. A grid and a Sobol sequence are shared by all workers.
        worker: How many workers were there before this one; each draws numbers of its own.

    Raises:
        ValueError: If there is no such sampler.
        ImportError: If SciPy is missing, which the Sobol sequence comes from.
    """
    own = int(np.random.SeedSequence([seed, worker]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "grid":
                return GridSampler(space.grid(n_trials), seed=seed)
            case "random":
                return RandomSampler(seed=own)
            case "bayesian":
                first = min(10, max(3, n_trials // 4))
                return TPESampler(seed=own, n_startup_trials=first, constant_liar=True)
            case "quasi-random":
                return _sobol(seed, own)
            case BaseSampler():
                return name
    raise ValueError(
        f"sampler must be {', '.join(get_args(SamplerName))} or a sampler of Optuna, but is "
        f"{name!r}"
    )


def _sobol(seed: int, own: int) -> QMCSampler:
    try:
        import scipy.stats  # noqa: F401 - Optuna would miss it only in the second trial
    except ImportError as error:
        raise ImportError(
            "quasi-random search needs SciPy, which is not installed: "
            "pip install 'lightning-plateau[tune]'"
        ) from error
    return QMCSampler(
        scramble=True,
        seed=seed,
        independent_sampler=RandomSampler(seed=own),
        warn_asynchronous_seeding=False,
        warn_independent_sampling=False,
    )
