"""A tournament: remedies compared from the same state on the same batches, the best is tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.remedy import Remedy
from lightning_plateau.training.run import Run
from lightning_plateau.treatment.rehearsal import rehearse, taken_back

MOST = 4
FIRST_ROUND = 15
NOTHING = "no remedy"


@dataclass(frozen=True)
class Candidate:
    """A remedy and the finding that it answers; None for doing nothing."""

    remedy: Remedy | None = None
    finding: Finding | None = None

    @property
    def name(self) -> str:
        """Name of the remedy."""
        return NOTHING if self.remedy is None else self.remedy.name


@dataclass(frozen=True)
class Standing:
    """Where a candidate has come to in a round.

    Attributes:
        candidate: The candidate.
        steps: Steps that it was rehearsed.
        loss: Median of its losses over the last turn through the batches; infinite where not all
            of them are finite.
    """

    candidate: Candidate
    steps: int
    loss: float


def compete(
    run: Run, candidates: Sequence[Candidate], batches: Sequence[Any]
) -> tuple[Standing, ...]:
    """Return the last standing of each candidate, the best first; the run is left as it was.

    Successive halving: all are rehearsed for a few steps, the better half for twice as many, and so
    on until one is left. Doing nothing takes part.

    Args:
        run: The run, between two batches.
        candidates: Remedies without an obstacle; at most four are compared.
        batches: Batches to step on, at least one.
    """
    left = [*candidates[:MOST], Candidate()]
    steps, out = FIRST_ROUND, list[Standing]()
    while True:
        round_ = sorted(
            (_rehearsed(run, candidate, batches, steps) for candidate in left),
            key=lambda standing: standing.loss,
        )
        keep = len(round_) // 2
        if keep < 2:
            return (*round_, *out)
        out = [*round_[keep:], *out]
        left = [standing.candidate for standing in round_[:keep]]
        steps *= 2


def _rehearsed(run: Run, candidate: Candidate, batches: Sequence[Any], steps: int) -> Standing:
    # The scale of the loss may differ from batch to batch: whole turns are compared.
    steps = -(-steps // len(batches)) * len(batches)
    with taken_back(run):
        target = run.snapshots.latest(before=run.step)
        if target is not None and run.worthless:
            target.restore(run, schedule=False)
        change = None if candidate.remedy is None else candidate.remedy.apply(run)
        try:
            losses = rehearse(run, batches, steps)
        finally:
            if candidate.remedy is not None and change is not None:
                candidate.remedy.revert(run, change)
    last = np.asarray(losses[-max(1, len(batches)) :])
    sound = len(last) > 0 and bool(np.isfinite(last).all())
    return Standing(candidate, steps, float(np.median(last)) if sound else math.inf)
