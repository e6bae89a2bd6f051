"""When experiments are made."""

from __future__ import annotations

from typing import Literal

When = Literal["when-stuck", "never"]
"""Where the loss does not go down and no cause is certain, or never."""
Check = bool | Literal["thorough"]
"""Whether to begin with those that are worth making before any training; ``"thorough"`` for those
too that say how to go on when nothing is wrong."""
