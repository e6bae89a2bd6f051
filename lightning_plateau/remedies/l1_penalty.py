"""l1-penalty: make small weights zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS, Signal
from lightning_plateau.training.shrinkage import Shrinkage

SHARE = 0.05


@dataclass(frozen=True)
class L1Penalty(Remedy):
    """Penalize the sum of the magnitudes of the weights.

    Args:
        strength: Factor of the penalty, above 0; None makes the penalty a twentieth of the loss.

    What it changes:
        After each step every weight moves towards zero by the learning rate times the factor, and
        stops there: the proximal step of the penalty. Biases and parameters of normalization layers
        are left alone. The loss that is shown does not contain the penalty.

    When it helps:
        Where training goes on improving and validation does not (LP801), and few of many features
        matter. It is judged by the validation loss.

    Safety:
        Too much of it makes all weights zero. It lasts over a resume; without this library a
        resumed run goes on without it. Refused for compiled and sharded optimizers, DeepSpeed, and
        without validation.

    How to undo:
        It is reverted by itself where it does not help.

    Example:
        >>> L1Penalty(strength=1e-4).lasting
        True

    References:
        Tibshirani, 1996, "Regression Shrinkage and Selection via the Lasso". Duchi and Singer,
        2009, "Efficient Online and Batch Learning Using Forward Backward Splitting".
    """

    name: ClassVar[str] = "l1-penalty"
    safety: ClassVar[Safety] = Safety.UNSAFE
    lasting: ClassVar[bool] = True
    watched: ClassVar[Signal] = VALIDATION_LOSS

    strength: float | None = None

    def __post_init__(self) -> None:
        if self.strength is not None and not 0.0 < self.strength < math.inf:
            raise ValueError(f"strength must be a positive finite number, but is {self.strength}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the weights cannot be shrunk after a step; None where they can."""
        if not run.adapters:
            return "there is no optimizer"
        if any(adapter.compiled for adapter in run.adapters):
            return "the step of the optimizer is compiled"
        if VALIDATION_LOSS not in run.history:
            return "there is no validation to judge it by"
        reasons = [adapter.obstacle("roll-back") for adapter in run.adapters]
        return next((reason for reason in reasons if reason is not None), None)

    def apply(self, run: Any) -> Change:
        """Begin to shrink."""
        strength = self.strength or _strength(run)
        change = Change({"l1_penalty": 0.0}, {"l1_penalty": strength}, {"strength": strength})
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Leave the weights alone again."""
        run.detach(self.name)

    def resume(self, run: Any, change: Change) -> None:
        """Go on shrinking."""
        run.attach(self.name, Shrinkage(run.adapters, change.undo["strength"]))


def _strength(run: Any) -> float:
    """Return the factor that makes the penalty a twentieth of the loss as it is now."""
    losses = run.history[LOSS].finite.tail(50).values
    loss = float(np.median(np.abs(losses))) if len(losses) else 1.0
    total = sum(
        float(p.detach().abs().sum())
        for adapter in run.adapters
        for p in adapter.parameters
        if p.dim() >= 2
    )
    strength = SHARE * loss / total if total > 0 else 0.0
    return strength if 0.0 < strength < math.inf else 1e-5
