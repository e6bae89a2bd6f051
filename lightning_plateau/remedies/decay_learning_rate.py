"""decay-learning-rate: multiply the learning rate by a factor that every scheduler keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.step_length import shortening


@dataclass(frozen=True)
class DecayLearningRate(Remedy):
    """Multiply the learning rate of every group by a factor.

    Args:
        factor: What the learning rates are multiplied by, above 0; None derives it from how far
            the first update moved the weights, 0.5 at most.
        strength: What a derived factor is multiplied by, above 0.

    What it changes:
        The learning rates, and all that the schedule is made of: base, initial, largest and
        smallest rates, in nested schedulers too. The schedule keeps its shape and its end. The
        numbers belong to the state of optimizer and scheduler, so a resumed run keeps the factor,
        also without this library.

    When it helps:
        Where the loss diverges, oscillates or stays because steps are too long. It cannot mend a
        loss that is flat for another reason.

    Safety:
        A smaller learning rate makes a sound training slower, and often worse in the end. All
        optimizers are scaled alike, so the balance of a GAN is kept. Code of yours that writes the
        learning rate itself on every step overrules it.

    How to undo:
        It is reverted by itself where it does not help: rates that have not moved get their old
        value back, bit for bit; those that the schedule has moved are divided by the factor.

    Example:
        >>> DecayLearningRate(factor=0.1)
        DecayLearningRate(factor=0.1, strength=1.0)

    References:
        Godbole et al., 2023, "Deep Learning Tuning Playbook". Zhang et al., 2021, "AutoTrainer"
        (ICSE).
    """

    name: ClassVar[str] = "decay-learning-rate"
    safety: ClassVar[Safety] = Safety.UNSAFE
    levels: ClassVar = ({"strength": 1.0}, {"strength": 0.2}, {"strength": 0.04})

    factor: float | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.strength < float("inf"):
            raise ValueError(f"strength must be a positive finite number, but is {self.strength}")
        if self.factor is not None and not 0.0 < self.factor < float("inf"):
            raise ValueError(f"factor must be a positive finite number, but is {self.factor}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the factor would not last; None where it does."""
        if not run.adapters:
            return "there is no optimizer"
        reasons = [adapter.obstacle("scale-learning-rate") for adapter in run.adapters]
        return next((reason for reason in reasons if reason is not None), None)

    def apply(self, run: Any) -> Change:
        """Scale the learning rates."""
        before = run.learning_rates
        # What was reverted just now still is the last that was recorded.
        rate = max(float(rate) for rate in before.values())
        derived = shortening(run.history.since(run.optimizer_since), self.strength, rate)
        factor = self.factor or derived or 0.5 * self.strength
        undo = [adapter.scale_learning_rate(factor) for adapter in run.adapters]
        return Change(before, run.learning_rates, {"learning_rates": undo})

    def revert(self, run: Any, change: Change) -> None:
        """Scale them back."""
        for adapter, undo in zip(run.adapters, change.undo["learning_rates"], strict=True):
            adapter.restore_learning_rate(undo)
