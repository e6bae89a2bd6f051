"""batch-norm-momentum: let running statistics follow the batches at the customary pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from lightning_plateau.core.remedy import Change, Remedy, Safety

LEAST, MOST = 0.005, 0.5


@dataclass(frozen=True)
class BatchNormMomentum(Remedy):
    """Set the momentum of batch norms to a customary value where it is extreme.

    Args:
        momentum: Weight of a new batch in the running statistics, above 0 and below 1.

    What it changes:
        ``momentum`` of layers that keep running statistics and weigh a new batch by less than half
        a percent or more than half. A momentum of None, the plain average, stays.

    When it helps:
        With 0 the statistics never move, with 1 evaluation rests on one batch alone (LP604).

    Safety:
        It touches evaluation only. It lasts over a resume; a checkpoint does not hold it, so
        **write it into your code**.

    How to undo:
        It is reverted by itself where it does not help.

    Example:
        >>> BatchNormMomentum(momentum=0.1).momentum
        0.1

    References:
        Ioffe and Szegedy, 2015, "Batch Normalization: Accelerating Deep Network Training by
        Reducing Internal Covariate Shift".
    """

    name: ClassVar[str] = "batch-norm-momentum"
    safety: ClassVar[Safety] = Safety.UNSAFE
    lasting: ClassVar[bool] = True

    momentum: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 < self.momentum < 1.0:
            raise ValueError(f"momentum must be between 0 and 1, but is {self.momentum}")

    def obstacle(self, run: Any) -> str | None:
        """Return why no momentum is changed; None where one is."""
        return None if _extreme(run.module) else "no layer has an extreme momentum"

    def apply(self, run: Any) -> Change:
        """Set the momentum."""
        before = _extreme(run.module)
        change = Change(before, dict.fromkeys(before, self.momentum), {"momentum": before})
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Put the old values back."""
        for name, momentum in change.undo["momentum"].items():
            run.module.get_submodule(name).momentum = momentum

    def resume(self, run: Any, change: Change) -> None:
        """Set the momentum again."""
        for name in change.undo["momentum"]:
            run.module.get_submodule(name).momentum = self.momentum


def _extreme(module: nn.Module) -> dict[str, float]:
    return {
        name: float(part.momentum)
        for name, part in module.named_modules()
        if isinstance(part, _NormBase)
        and part.track_running_stats
        and part.momentum is not None
        and not LEAST <= part.momentum <= MOST
    }
