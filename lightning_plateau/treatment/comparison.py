"""A comparison: the loss before a remedy beside that at the end of its probation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_plateau.core.profile import Value
from lightning_plateau.core.remedy import Remedy, Safety, Verdict
from lightning_plateau.core.signal import VALIDATION_LOSS
from lightning_plateau.core.statistics import noise

MATERIAL = 0.01
"""A change of the loss below this share of its size is no change."""
ENOUGH = 0.9
"""Share by which the loss of a run that is to learn faster should fall until the end."""


@dataclass(frozen=True, slots=True)
class Level:
    """Where the loss was over some steps.

    Attributes:
        loss: Median of the finite losses; NaN for none.
        error: Standard error of that median.
        finite: Share of the losses that are finite; 1.0 where nothing was recorded.
    """

    loss: float
    error: float
    finite: float

    @classmethod
    def of(cls, losses: Any) -> Level:
        """Return the level of an array of losses ``[n]``.

        Example:
            >>> Level.of([2.0, 2.0, float("nan"), 2.0])
            Level(loss=2.0, error=0.0, finite=0.75)
        """
        values = np.asarray(losses, dtype=np.float64)
        finite = values[np.isfinite(values)]
        if not len(finite):
            return cls(math.nan, math.nan, 0.0 if len(values) else 1.0)
        spread = noise(values) if len(finite) > 2 else 0.0
        # The median of normal values has a standard error of √(π/2)·σ/√n.
        error = 1.2533 * (0.0 if math.isnan(spread) else spread) / math.sqrt(len(finite))
        return cls(float(np.median(finite)), error, len(finite) / len(values))

    @property
    def is_finite(self) -> bool:
        """Whether most of the losses are finite."""
        return self.finite >= 0.5

    @property
    def plain(self) -> dict[str, Value]:
        """The numbers for an outcome."""
        return {"loss": self.loss, "finite": self.finite}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The loss before a remedy and at the end of its probation.

    Attributes:
        before: The loss before it.
        after: The loss at the end.
        drift: By how much it would have changed meanwhile at its old pace; 0 where it stood still,
            and where it rose, unless a rise is what the remedy is to stop.
    """

    before: Level
    after: Level
    drift: float = 0.0

    @property
    def _rise(self) -> float:
        return self.after.loss - self.before.loss

    @property
    def _least(self) -> float:
        """The least change that is neither chance nor of no account."""
        chance = 3 * math.hypot(self.before.error, self.after.error)
        return max(chance, MATERIAL * max(abs(self.before.loss), abs(self.after.loss)))

    @property
    def fall(self) -> float:
        """Share of the loss before by which it fell."""
        size = abs(self.before.loss)
        return -self._rise / size if size > 0 else 0.0

    @property
    def worse(self) -> bool:
        """Whether the loss is higher than before by more than chance, or no longer finite."""
        if not (self.before.is_finite and self.after.is_finite):
            return self.before.is_finite and not self.after.is_finite
        return self._rise - max(0.0, self.drift) > self._least

    @property
    def _doubled(self) -> bool:
        """Whether the loss is twice as high as before, be it by chance: nobody would go on."""
        return self._rise - max(0.0, self.drift) > abs(self.before.loss) > 0.0

    @property
    def better(self) -> bool:
        """Whether the loss fell by more than chance and than it would have, or is finite again."""
        if not (self.before.is_finite and self.after.is_finite):
            return self.after.is_finite and not self.before.is_finite
        return self._rise - self.drift < -self._least

    @property
    def fresh_verdict(self) -> tuple[Verdict, str]:
        """Return how the trial of a run ends that began again: nothing but learning counts."""
        first, now = f"{self.before.loss:.4g}", f"{self.after.loss:.4g}"
        if self.better:
            return Verdict.KEPT, f"begun again, the loss fell from {first} to {now}"
        return Verdict.REVERTED, f"begun again, the loss went from {first} to {now}: no gain"

    @property
    def verdict_on_pace(self) -> tuple[Verdict, str]:
        """Return how a trial ends that is to make the loss fall faster."""
        change = f"the loss went from {self.before.loss:.4g} to {self.after.loss:.4g}"
        if self.better:
            return Verdict.KEPT, f"{change}: faster than before"
        if self.before.is_finite and self.after.is_finite and self.fall >= ENOUGH:
            return Verdict.KEPT, f"{change}: far enough, though it fell before"
        return Verdict.REVERTED, f"{change}: no faster than before"

    def verdict(self, remedy: Remedy, code: str, *, still_found: bool) -> tuple[Verdict, str]:
        """Return how the trial ends, and one sentence that says why."""
        watched = "the validation loss" if remedy.watched == VALIDATION_LOSS else "the loss"
        change = f"{watched} went from {self.before.loss:.4g} to {self.after.loss:.4g}"
        if self.better and self._rise > 0:
            change += ", less than it would have risen"
        if not self.after.is_finite:
            share = 100 * (1 - self.after.finite)
            return Verdict.REVERTED, f"the loss is not finite in {share:.0f} % of the steps"
        if self.worse or self._doubled:
            return Verdict.REVERTED, f"{change}: it rose"
        if not still_found:
            return Verdict.KEPT, f"{code} is gone; {change}"
        if self.better:
            return Verdict.KEPT, f"{code} is still there, but {change}"
        if remedy.safety is Safety.SAFE:
            return Verdict.KEPT, f"{code} is still there, and does no harm: {change}"
        return Verdict.REVERTED, f"{code} is still there, and {change}: that is no improvement"
