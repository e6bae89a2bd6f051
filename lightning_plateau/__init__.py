"""Why does the loss not go down? A plugin for PyTorch Lightning that finds out and mends it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_plateau.callback import PlateauCallback
    from lightning_plateau.checkup import Checkup, check
    from lightning_plateau.diagnosis import diagnose
    from lightning_plateau.mixin import PlateauMixin
    from lightning_plateau.recording.profile import Hints
    from lightning_plateau.treatment.policy import Policy

__version__ = "0.1.0"
__all__ = ["Checkup", "Hints", "PlateauCallback", "PlateauMixin", "Policy", "check", "diagnose"]

_HOMES = {
    "Checkup": "lightning_plateau.checkup",
    "check": "lightning_plateau.checkup",
    "Hints": "lightning_plateau.recording.profile",
    "PlateauCallback": "lightning_plateau.callback",
    "PlateauMixin": "lightning_plateau.mixin",
    "Policy": "lightning_plateau.treatment.policy",
    "diagnose": "lightning_plateau.diagnosis",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is used: reading the catalogue needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
