"""quarantine-batch: leave out the batches that broke a step each time they come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from lightning_plateau.core.remedy import Change, Remedy, Safety
from lightning_plateau.core.signal import SKIPPED_STEPS
from lightning_plateau.training import quarantine
from lightning_plateau.training.quarantine import EVERY, Place, Quarantine, place_of

NAME = "quarantine"
MOST = 100
"""Batches in quarantine beyond which there is no end to them."""


@dataclass(frozen=True)
class QuarantineBatch(Remedy):
    """Leave out the batches that broke a step, each time they come, and say which they are.

    What it changes:
        The batches whose steps were skipped so far are written down by their place: their index
        where the data come in the same order in each epoch, else epoch and index. Where a loader
        shuffles by itself no batch comes again, and it refuses. A step of such a
        batch is left out as skip-step leaves one out, whatever its gradients are. The places
        travel with the checkpoint, so that a resumed run leaves them out too.

    When it helps:
        Where batches hold damaged samples (LP102). The journal tells which batches to look at, and
        a run that is resumed, or comes to them again, need not meet them first.

    Safety:
        Nothing but steps that broke already is left out. Sound samples of such a batch are left out
        with it. Where the order changes although the loader says it does not (a sampler of your
        own), another batch may be left out in its place. It refuses manual optimization with
        several steps a batch, several optimizers, epochs without a known end, and a gradient
        scaler, which skips by itself.

    How to undo:
        ``policy="observe"``; the lasting cure is to clean the data set.

    Example:
        >>> QuarantineBatch().lasting
        True

    References:
        Chowdhery et al., 2022, "PaLM: Scaling Language Modeling with Pathways" (batches that led to
        a spike are skipped).
    """

    name: ClassVar[str] = "quarantine-batch"
    safety: ClassVar[Safety] = Safety.SAFE
    lasting: ClassVar[bool] = True

    def obstacle(self, run: Any) -> str | None:
        """Return why no batch can be put in quarantine; None where one can."""
        if not run.adapters:
            return "there is no optimizer"
        reasons = [run.adapters[0].obstacle("skip"), _scaled(run), _drawn_by_lot(run)]
        reason = next((reason for reason in reasons if reason is not None), None)
        reason = reason or quarantine.obstacle(run.trainer, run.step, len(run.adapters))
        if reason is None and len(_held(run)) >= MOST:
            return f"{MOST} batches are in quarantine: it is the data set that needs cleaning"
        if reason is None and not _new_places(run):
            return "no step was skipped whose batch is not in quarantine already"
        return reason

    def apply(self, run: Any) -> Change:
        """Put the batches of all skipped steps in quarantine."""
        held, new = _held(run), _new_places(run)
        skipped = run.guard.settings.skip_non_finite
        undo = {"places": [list(place) for place in new], "skip_non_finite": skipped}
        change = Change({"quarantine": _told(held)}, {"quarantine": _told(held | new)}, undo)
        self.resume(run, change)
        return change

    def revert(self, run: Any, change: Change) -> None:
        """Let the batches in again."""
        left = _held(run) - _places(change)
        run.detach(NAME)
        if left:
            run.attach(NAME, Quarantine(run.trainer, left))
        skipped = change.undo["skip_non_finite"]
        run.guard.settings = replace(run.guard.settings, skip_non_finite=skipped)

    def resume(self, run: Any, change: Change) -> None:
        """Put the same batches in quarantine again."""
        run.attach(NAME, Quarantine(run.trainer, _held(run) | _places(change)))
        run.guard.settings = replace(run.guard.settings, skip_non_finite=True)


def _scaled(run: Any) -> str | None:
    return None if run.scaler is None else "the gradient scaler skips steps by itself"


def _drawn_by_lot(run: Any) -> str | None:
    """Ranks share their samples out by the number of the epoch, which a resumed run has too."""
    if run.history.profile.shuffled is not True or run.history.profile.world_size > 1:
        return None
    return "the loader draws its batches anew in each epoch, so that none comes again"


def _held(run: Any) -> frozenset[Place]:
    attached: Quarantine | None = run.attachments.get(NAME)
    return frozenset() if attached is None else attached.places


def _places(change: Change) -> frozenset[Place]:
    return frozenset((int(epoch), int(index)) for epoch, index in change.undo["places"])


def _new_places(run: Any) -> frozenset[Place]:
    """Return the places of the batches whose steps were skipped, those in quarantine left out."""
    series, shuffled = run.history[SKIPPED_STEPS], run.history.profile.shuffled is not False
    steps = series.steps[np.nan_to_num(series.values) > 0].tolist()
    return frozenset(place_of(run.trainer, s, shuffled=shuffled) for s in steps) - _held(run)


def _told(places: frozenset[Place]) -> str:
    if not places:
        return "none"
    return ", ".join(
        f"batch {index} of every epoch" if epoch == EVERY else f"batch {index} of epoch {epoch}"
        for epoch, index in sorted(places)
    )
