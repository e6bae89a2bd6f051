"""Spaces that are ready: what is worth searching in almost any training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

from lightning_plateau.tuning.configuration import OPTIMIZERS, SCHEDULES
from lightning_plateau.tuning.space import Dimension, Space

RATE = Dimension(FloatDistribution(1e-5, 1.0, log=True), widest=(1e-8, 100.0))
DECAY = Dimension(FloatDistribution(1e-6, 1e-1, log=True), widest=(1e-10, 10.0))
DROPOUT = Dimension(FloatDistribution(0.0, 0.6), widest=(0.0, 0.9), optional=True)
CLIP = Dimension(FloatDistribution(0.1, 10.0, log=True), widest=(1e-3, 1e3), optional=True)
BATCH_SIZE = Dimension(CategoricalDistribution([16, 32, 64, 128]), optional=True)
ACTIVATION = Dimension(CategoricalDistribution(["relu", "gelu", "tanh"]), optional=True)

learning_rate = Space({"learning_rate": RATE})
"""The learning rate alone."""

optimizer = Space(
    {
        "learning_rate": RATE,
        "optimizer": Dimension(CategoricalDistribution(list(OPTIMIZERS))),
        "weight_decay": DECAY,
    }
)
"""The optimizer, with its learning rate and weight decay."""

regularization = Space({"weight_decay": DECAY, "dropout": DROPOUT})
"""What keeps a network from learning its samples by heart."""

standard = Space(
    {
        "learning_rate": RATE,
        "optimizer": Dimension(CategoricalDistribution(["SGD", "AdamW"])),
        "schedule": Dimension(CategoricalDistribution(list(SCHEDULES))),
        "weight_decay": DECAY,
        "batch_size": BATCH_SIZE,
        "gradient_clip_val": CLIP,
        "dropout": DROPOUT,
        "activation": ACTIVATION,
    }
)
"""What one would try by hand."""

READY: Mapping[str, Space] = {
    "learning_rate": learning_rate,
    "optimizer": optimizer,
    "regularization": regularization,
    "standard": standard,
}
"""The ready spaces by name."""


def find_space(given: Any) -> Space:
    """Return a space by its name, or the one that ``given`` describes.

    Raises:
        ValueError: If there is none of that name, or ``given`` describes none.

    Example:
        >>> find_space("learnin_rate")
        Traceback (most recent call last):
            ...
        ValueError: space must be one of learning_rate, optimizer, regularization, standard, a Space
        or settings by name, but is 'learnin_rate'
    """
    if isinstance(given, str):
        if given not in READY:
            raise ValueError(
                f"space must be one of {', '.join(READY)}, a Space or settings by name, but is "
                f"{given!r}"
            )
        return READY[given]
    return Space.of(given)
