"""Why does the loss not go down? A PyTorch Lightning plugin that finds out, proves it and mends it."""

from __future__ import annotations

__version__ = "0.1.0"
