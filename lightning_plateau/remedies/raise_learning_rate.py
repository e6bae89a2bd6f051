"""raise-learning-rate: multiply the learning rate by a factor that every scheduler keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.step_length import lengthening

CUSTOMARY = 10.0


@dataclass(frozen=True)
class RaiseLearningRate(Remedy):
    """Multiply the learning rate of every group by a factor above one.

    Args:
        factor: What the learning rates are multiplied by, above 1; None derives it from how far
            the updates move the weights.

    What it changes:
        The learning rates, and all that the schedule is made of, as decay-learning-rate does. The
        derived factor makes an update half a percent of the weights of a typical layer, which is
        at the lower end of what sound trainings do; it is at most 10,000.

    When it helps:
        Where all updates together have hardly moved the weights (LP407), or are lost in the
        rounding of the weights (LP412). A loss that is flat for another reason diverges.

    Safety:
        Too long steps destroy what was learned. Where the loss rises, the state before is restored.

    How to undo:
        It is reverted by itself where it does not help: rates that have not moved get their old
        value back, bit for bit; those that the schedule has moved are divided by the factor.

    Example:
        >>> RaiseLearningRate(factor=10.0)
        RaiseLearningRate(factor=10.0)

    References:
        Bengio, 2012, "Practical Recommendations for Gradient-Based Training of Deep Architectures".
        Smith, 2017, "Cyclical Learning Rates for Training Neural Networks".
    """

    name: ClassVar[str] = "raise-learning-rate"
    safety: ClassVar[Safety] = Safety.UNSAFE
    levels: ClassVar = ({"factor": None}, {"factor": 10.0}, {"factor": 3.0})

    factor: float | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and not 1.0 < self.factor < float("inf"):
            raise ValueError(f"factor must be a finite number above 1, but is {self.factor}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the factor would not last; None where it does."""
        if not run.adapters:
            return "there is no optimizer"
        if not any(float(rate) > 0 for rate in run.learning_rates.values()):
            return "the learning rate is 0, and stays so whatever it is multiplied by"
        reasons = [adapter.obstacle("scale-learning-rate") for adapter in run.adapters]
        return next((reason for reason in reasons if reason is not None), None)

    def apply(self, run: Any) -> Change:
        """Scale the learning rates."""
        before = run.learning_rates
        factor = self.factor or lengthening(run.history) or CUSTOMARY
        undo = [adapter.scale_learning_rate(factor) for adapter in run.adapters]
        return Change(before, run.learning_rates, {"learning_rates": undo})

    def revert(self, run: Any, change: Change) -> None:
        """Scale them back."""
        for adapter, undo in zip(run.adapters, change.undo["learning_rates"], strict=True):
            adapter.restore_learning_rate(undo)
