"""Search for good settings with Optuna, and end trials that are sick as soon as it shows."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("optuna") is None:
    raise ImportError(
        "tuning needs Optuna, which is not installed: pip install 'lightning-plateau[tune]'"
    )

from lightning_plateau.tuning.callbacks import trial_callbacks
from lightning_plateau.tuning.outcome import Tuning
from lightning_plateau.tuning.pruner import PlateauPruner
from lightning_plateau.tuning.search import tune
from lightning_plateau.tuning.space import Dimension, Space
from lightning_plateau.tuning.spaces import learning_rate, optimizer, regularization, standard

__all__ = [
    "Dimension",
    "PlateauPruner",
    "Space",
    "Tuning",
    "learning_rate",
    "optimizer",
    "regularization",
    "standard",
    "trial_callbacks",
    "tune",
]
