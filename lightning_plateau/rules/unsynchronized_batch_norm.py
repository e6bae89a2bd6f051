"""LP610: each device normalizes by its own small batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.normalization import batch_norm_calls
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import BATCH_SIZE
from lightning_plateau.core.statistics import finite

_MOST = 1e12
"""Samples that no batch has: the middle of larger numbers would overflow."""


@dataclass(frozen=True)
class UnsynchronizedBatchNorm(Rule):
    """Each of several devices normalizes by its own small batch.

    What it detects:
        More than one device, batch norm in training mode that is not synchronized, and fewer than
        16 samples in the batch of a device, though all of them together have 16 or more.

    Why it matters:
        Gradients are averaged over the devices, statistics are not: a large batch that is spread
        over many devices is normalized as many small ones.

    Example:
        >>> from lightning_plateau.core.profile import ModuleFact, Profile
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> norm = Operation(0, "batch_norm", "bn", (Operand("batch", 0, "0", (4, 8)),))
        >>> facts = Profile(modules=(ModuleFact("bn", "BatchNorm1d"),), world_size=8)
        >>> run = history({BATCH_SIZE: [4.0]}, profile=facts, tapes=[Tape(0, (norm,), root=0)])
        >>> UnsynchronizedBatchNorm().check(run).message
        'each of 8 devices normalizes by its own 4 samples: 1 batch norm is not synchronized'

    Remedies:
        Advice only: ``Trainer(sync_batchnorm=True)``, which needs GPUs; or GroupNorm.

    Known limitations:
        Batch norms in functional form are counted too, but cannot be synchronized.

    References:
        Peng et al., 2018, MegDet: A Large Mini-Batch Object Detector (CVPR): cross-GPU batch
        normalization.
    """

    code: ClassVar[str] = "LP610"
    name: ClassVar[str] = "unsynchronized-batch-norm"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (BATCH_SIZE,)
    explains: ClassVar = (
        "LP306",
        "LP401",
        "LP403",
        "LP404",
        "LP405",
        "LP601",
        "LP602",
        "LP802",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "gradients are averaged over the devices, statistics are not"

    least_samples: float = 16.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where several devices have a small batch each."""
        tape, devices = history.last_tape, history.profile.world_size
        sizes = finite(history[BATCH_SIZE].values)
        if tape is None or devices < 2 or not len(sizes):
            return None
        samples = float(np.median(np.minimum(sizes, _MOST)))
        if not samples < self.least_samples <= samples * devices:
            return None
        layers = list(
            dict.fromkeys(
                call.name
                for call in batch_norm_calls(tape)
                if call.training and not _synchronized(history, call.operation.layer)
            )
        )
        if not layers:
            return None
        norms = "batch norm is" if len(layers) == 1 else "batch norms are"
        return self.finding(
            history,
            0.65 if samples < self.least_samples / 2 else 0.5,
            f"each of {devices} devices normalizes by its own {samples:.0f} samples: "
            f"{len(layers)} {norms} not synchronized",
            evidence=(Evidence(BATCH_SIZE.tag, samples, self.least_samples, layers[0]),),
            fix="Trainer(sync_batchnorm=True), or nn.GroupNorm",
            where=layers[0],
        )


def _synchronized(history: History, layer: str) -> bool:
    fact = history.profile.module(layer)
    return fact is not None and fact.kind == "SyncBatchNorm"
