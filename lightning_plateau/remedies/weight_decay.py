"""weight-decay: pull the weights towards zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch.optim import AdamW

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.signal import VALIDATION_LOSS, Signal

CUSTOMARY, CUSTOMARY_DECOUPLED, DEFAULT_DECOUPLED = 5e-4, 0.1, 0.01


@dataclass(frozen=True)
class WeightDecay(Remedy):
    """Raise the weight decay (L2) of every group.

    Args:
        value: The weight decay, above 0; None takes 0.1 where it is decoupled (AdamW), and 0.0005
            where it is added to the gradient.
        strength: What a value that is not given is multiplied by, above 0.

    What it changes:
        ``weight_decay`` of every group. It belongs to the state of the optimizer, so a resumed run
        keeps it, also without this library.

    When it helps:
        Where training goes on improving and validation does not (LP801). It is judged by the
        validation loss.

    Safety:
        Too much of it keeps a network from learning. A weight decay that you have set stays, unless
        ``allow_user_overrides``. Refused for optimizers without one and without validation.

    How to undo:
        It is reverted by itself where it does not help.

    Example:
        >>> WeightDecay(value=0.05).watched.tag
        'loss/validation'

    References:
        Loshchilov and Hutter, 2019, "Decoupled Weight Decay Regularization" (ICLR).
    """

    name: ClassVar[str] = "weight-decay"
    safety: ClassVar[Safety] = Safety.UNSAFE
    watched: ClassVar[Signal] = VALIDATION_LOSS
    levels: ClassVar = ({"strength": 1.0}, {"strength": 5.0})

    value: float | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        for name in ("value", "strength"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be a positive finite number, but is {value}")

    def obstacle(self, run: Any) -> str | None:
        """Return why the weight decay cannot or must not be changed; None where it may."""
        if not run.adapters:
            return "there is no optimizer"
        groups = [g for adapter in run.adapters for g in adapter.optimizer.param_groups]
        if not all("weight_decay" in group for group in groups):
            return "an optimizer has no weight decay"
        own = [v for a in run.adapters for v in _set_by_user(a.optimizer)]
        reasons = {
            f"weight_decay is set to {own[0] if own else 0}": own and not run.allow_user_overrides,
            "DeepSpeed holds the optimizer": any(a.deepspeed for a in run.adapters),
            "the step of the optimizer is compiled": any(a.compiled for a in run.adapters),
            "there is no validation to judge it by": VALIDATION_LOSS not in run.history,
        }
        return next((reason for reason, applies in reasons.items() if applies), None)

    def apply(self, run: Any) -> Change:
        """Raise it."""
        before = [[g["weight_decay"] for g in a.optimizer.param_groups] for a in run.adapters]
        for adapter in run.adapters:
            usual = CUSTOMARY_DECOUPLED if _decoupled(adapter.optimizer) else CUSTOMARY
            for group in adapter.optimizer.param_groups:
                wanted = self.value or self.strength * usual
                group["weight_decay"] = max(wanted, float(group["weight_decay"]))
        after = run.adapters[0].optimizer.param_groups[0]["weight_decay"]
        return Change(
            {"weight_decay": float(before[0][0])}, {"weight_decay": after}, {"values": before}
        )

    def revert(self, run: Any, change: Change) -> None:
        """Put the old values back."""
        for adapter, values in zip(run.adapters, change.undo["values"], strict=True):
            for group, value in zip(adapter.optimizer.param_groups, values, strict=True):
                group["weight_decay"] = value


def _decoupled(optimizer: Any) -> bool:
    return isinstance(optimizer, AdamW)


def _set_by_user(optimizer: Any) -> list[float]:
    default = DEFAULT_DECOUPLED if _decoupled(optimizer) else 0.0
    values = [float(group["weight_decay"]) for group in optimizer.param_groups]
    return [value for value in values if value not in (0.0, default)]
