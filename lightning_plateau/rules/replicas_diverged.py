"""LP901: the replicas of a data-parallel training no longer hold the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import REPLICA_DIFFERENCES


@dataclass(frozen=True)
class ReplicasDiverged(Rule):
    """The replicas of a data-parallel training no longer hold the same weights.

    What it detects:
        A parameter whose norm differs between the ranks by more than one part in ten thousand. They
        start alike and step with averaged gradients, so they are equal to the bit for ever, unless
        something changes them on one rank alone.

    Why it matters:
        Each rank trains a network of its own with gradients that belong to none of them. One is
        saved, and it is not the one that the losses were computed with.

    Example:
        >>> from lightning_plateau.testing import history
        >>> run = history({REPLICA_DIFFERENCES: {"fc.weight": [0.25], "fc.bias": [0.0]}})
        >>> ReplicasDiverged().check(run).message
        'the replicas differ in 1 of 2 parameters: the norm of fc.weight by 0.25 of it'

    Remedies:
        Advice only: do the same on every rank. What draws random numbers draws them from a common
        seed, and what changes weights in place does so everywhere, or is followed by a broadcast
        from rank zero.

    Known limitations:
        It compares norms, after the first diagnosis and about every 500 steps: replicas that differ
        and whose norms do not are taken for equal. Only DDP is compared, and not where replicas
        are averaged now and then on purpose (local SGD).

    References:
        Li et al., 2020, PyTorch Distributed: Experiences on Accelerating Data Parallel Training
        (VLDB), on why replicas stay equal.
    """

    code: ClassVar[str] = "LP901"
    name: ClassVar[str] = "replicas-diverged"
    severity: ClassVar[Severity] = Severity.ERROR
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (REPLICA_DIFFERENCES,)
    explains: ClassVar = ("LP203", "LP401", "LP403", "LP404", "LP405", "LP406")
    why: ClassVar[str] = "each rank trains a network of its own with gradients that belong to none"

    limit: float = 1e-4

    def check(self, history: History) -> Finding | None:
        """Return the fault where the ranks differed when they were compared last."""
        series = history[REPLICA_DIFFERENCES]
        row = np.nan_to_num(series.last_row, nan=0.0, posinf=np.inf)
        apart = np.flatnonzero(row > self.limit)
        if not len(apart):
            return None
        worst = apart[np.argmax(row[apart])]
        where, most = series.labels[worst], float(row[worst])
        how = f"by {most:.3g} of it" if np.isfinite(most) else "is finite on some ranks only"
        return self.finding(
            history,
            0.97,
            f"the replicas differ in {len(apart)} of {len(row)} parameters: the norm of {where} "
            f"{how}",
            evidence=(Evidence(REPLICA_DIFFERENCES.tag, most, self.limit, where),),
            fix="change weights and draw random numbers alike on every rank",
            where=where,
        )
