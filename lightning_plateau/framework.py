"""Which Lightning this process uses: ``lightning`` or ``pytorch_lightning``.

The two packages hold equal but distinct classes, and a Trainer of the one refuses modules of the
other. The one that the user's program has imported already is taken; else the one installed.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING


def _choose() -> str:
    if "lightning.pytorch" in sys.modules:
        return "lightning.pytorch"
    if "pytorch_lightning" in sys.modules or find_spec("lightning") is None:
        return "pytorch_lightning"
    return "lightning.pytorch"


PACKAGE = _choose()
"""Import name of the chosen package."""

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
else:
    _chosen = import_module(PACKAGE)
    Callback = _chosen.Callback
    LightningDataModule = _chosen.LightningDataModule
    LightningModule = _chosen.LightningModule
    Trainer = _chosen.Trainer


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Lightning's advice on devices, workers and loggers from the terminal."""
    loggers = [logging.getLogger(name) for name in (PACKAGE, "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


__all__ = ["PACKAGE", "Callback", "LightningDataModule", "LightningModule", "Trainer", "quietly"]
