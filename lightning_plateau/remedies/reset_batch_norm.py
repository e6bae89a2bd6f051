"""reset-batch-norm: let normalization layers gather their running statistics anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.training.running_statistics import (
    damaged_parts,
    parts_with_statistics,
    write,
)


@dataclass(frozen=True)
class ResetBatchNorm(Remedy):
    """Set running statistics back to mean 0 and variance 1, and gather them anew.

    What it changes:
        ``running_mean``, ``running_var`` and ``num_batches_tracked`` of the layers whose statistics
        are not finite; of all such layers where every one is finite. Training goes on by the
        batch's own statistics as before.

    When it helps:
        Where evaluation is broken and training is not: after a batch of NaN (LP605), or with
        statistics of another data set.

    Safety:
        Until some tens of batches have been seen, evaluation is off.

    How to undo:
        It is reverted by itself where it does not help: the buffers are put back, bit for bit.

    Example:
        >>> ResetBatchNorm().safety
        <Safety.UNSAFE: 'unsafe'>

    References:
        Ioffe and Szegedy, 2015, "Batch Normalization: Accelerating Deep Network Training by
        Reducing Internal Covariate Shift".
    """

    name: ClassVar[str] = "reset-batch-norm"
    safety: ClassVar[Safety] = Safety.UNSAFE

    def obstacle(self, run: Any) -> str | None:
        """Return why there is nothing to reset; None where there is."""
        if not parts_with_statistics(run.module):
            return "no layer keeps running statistics"
        return None

    def apply(self, run: Any) -> Change:
        """Reset them."""
        chosen = damaged_parts(run.module) or parts_with_statistics(run.module)
        undo = write(run.module, {name: part.fresh for name, part in chosen.items()})
        return Change({"reset_layers": 0}, {"reset_layers": len(chosen)}, {"values": undo})

    def revert(self, run: Any, change: Change) -> None:
        """Put the old ones back."""
        write(run.module, change.undo["values"])
