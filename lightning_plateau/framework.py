"""Which Lightning this process uses: ``lightning`` or ``pytorch_lightning``.

The two packages hold equal but distinct classes, and a Trainer of the one refuses modules of the
other. The one that the user's program has imported already is taken; else the one installed.
"""

from __future__ import annotations

import sys
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
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    _chosen = import_module(PACKAGE)
    Callback = _chosen.Callback
    LightningModule = _chosen.LightningModule
    Trainer = _chosen.Trainer

__all__ = ["PACKAGE", "Callback", "LightningModule", "Trainer"]
