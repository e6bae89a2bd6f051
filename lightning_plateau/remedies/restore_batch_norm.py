"""restore-batch-norm: put running statistics back that are NaN or infinite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.training.running_statistics import damaged_parts, write


@dataclass(frozen=True)
class RestoreBatchNorm(Remedy):
    """Put running statistics back that are not finite.

    What it changes:
        Only layers whose running statistics hold NaN or infinity: they get those of the last good
        snapshot where there is one, and mean 0 and variance 1, to be gathered anew, where not.

    When it helps:
        Once a batch of NaN has passed through, the statistics stay NaN for ever, and so does every
        evaluation (LP605), though training may go on as if nothing were.

    Safety:
        What is NaN cannot get worse. Statistics that are finite are not touched.

    How to undo:
        There is nothing to go back to.

    Example:
        >>> RestoreBatchNorm().safety
        <Safety.SAFE: 'safe'>

    References:
        Ioffe and Szegedy, 2015, "Batch Normalization: Accelerating Deep Network Training by
        Reducing Internal Covariate Shift".
    """

    name: ClassVar[str] = "restore-batch-norm"
    safety: ClassVar[Safety] = Safety.SAFE

    def obstacle(self, run: Any) -> str | None:
        """Return why there is nothing to restore; None where there is."""
        return None if damaged_parts(run.module) else "all running statistics are finite"

    def apply(self, run: Any) -> Change:
        """Put them back."""
        snapshot = run.snapshots.latest()
        held = {} if snapshot is None else snapshot.state["module"]
        values = {}
        for name, part in damaged_parts(run.module).items():
            known = {buffer: held.get(f"{name}.{buffer}") for buffer in part.fresh}
            sound = all(v is not None and bool(v.isfinite().all()) for v in known.values())
            values[name] = (
                {k: v for k, v in known.items() if v is not None} if sound else part.fresh
            )
        undo = write(run.module, values)
        return Change({"restored_layers": 0}, {"restored_layers": len(values)}, {"values": undo})

    def revert(self, run: Any, change: Change) -> None:
        """Put the old ones back."""
        write(run.module, change.undo["values"])
