"""What the callback is set to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_plateau.core.rule import Rule
from lightning_plateau.occasions import Check, When
from lightning_plateau.treatment.policy import Policy


@dataclass(frozen=True)
class Settings:
    """What the callback is set to, whichever training it watches.

    Attributes:
        policy: What may be done to the run.
        rules: The rules that are asked.
        every_n_steps: Optimizer steps between looks, where the policy asks for none sooner.
        experiments: When experiments are made.
        check: Whether to begin with experiments.
        lean: Whether only what is asked for is diagnosed, and a few steps are looked at closely:
            for trials of a search, most of which nobody will ever read of.
    """

    policy: Policy
    rules: Sequence[Rule]
    every_n_steps: int
    experiments: When
    check: Check
    lean: bool = False
