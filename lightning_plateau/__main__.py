"""``python -m lightning_plateau``: the same as the command ``lightning-plateau``."""

from __future__ import annotations

import sys

from lightning_plateau.cli import main

if __name__ == "__main__":
    sys.exit(main())
