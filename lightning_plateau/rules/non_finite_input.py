"""LP102: the batch holds NaN or infinity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import loss_is_scaled, seen_losses
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    DATA_MAXIMUM,
    DATA_MINIMUM,
    DATA_NON_FINITE,
    GRADIENT_NORM,
    LOSS,
)
from lightning_plateau.core.tape import Operand, Tape


@dataclass(frozen=True)
class NonFiniteInput(Rule):
    """The batch holds NaN or infinity.

    What it detects:
        A tensor of the batch with NaN or infinite values on a step whose loss or gradients are not
        finite, or on which training died. A tensor that held such values before without harm is
        left alone: some programs mark missing targets with NaN and masks with −inf, and handle
        them.

    Why it matters:
        One NaN in one sample makes the whole loss NaN; the step after it destroys every parameter.
        No learning rate and no clipping helps.

    Example:
        >>> from lightning_plateau.testing import history
        >>> bad = {DATA_NON_FINITE: {"image": [3.0], "label": [0.0]}}
        >>> finding = NonFiniteInput().check(history(bad, loss=[float("nan")]))
        >>> finding.confidence, finding.message
        (1.0, "tensor 'image' of the batch holds 3 NaN or infinite values at step 0")
        >>> NonFiniteInput().check(history(bad, loss=[2.3])) is None
        True

    Remedies:
        skip-step leaves out the batches that hold such values, and quarantine-batch remembers which
        they are. The lasting cure is to clean the data set.

    Known limitations:
        Batches are looked at on sampled steps and, on the CPU, on steps that turn out not finite. A
        NaN that ``training_step`` itself makes out of clean data is LP204's.

    References:
        Schoop et al., 2021, UMLAUT: Debugging Deep Learning Programs using Program Structure and
        Model Behavior (CHI).
    """

    code: ClassVar[str] = "LP102"
    name: ClassVar[str] = "non-finite-input"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (DATA_NON_FINITE, DATA_MINIMUM, DATA_MAXIMUM, LOSS, GRADIENT_NORM)
    explains: ClassVar = (
        "LP201",
        "LP202",
        "LP203",
        "LP204",
        "LP207",
        "LP301",
        "LP306",
        "LP401",
        "LP402",
        "LP404",
        "LP605",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("skip-step", "quarantine-batch")
    why: ClassVar[str] = "one NaN in one sample makes the loss and every gradient NaN"

    def check(self, history: History) -> Finding | None:
        """Return the fault at the first step that a non-finite tensor of the batch broke."""
        counts = history[DATA_NON_FINITE]
        if not (counts.values > 0).any():
            return None
        handled = np.zeros(len(counts.labels), dtype=bool)
        for step, row in zip(counts.steps.tolist(), counts.values, strict=True):
            if not (row > 0).any():
                continue
            wrong = _went_wrong(history, step)
            if wrong is False:
                handled |= row > 0
            guilty = (row > 0) & ~handled
            if wrong and guilty.any():
                return self._report(history, step, counts, np.where(guilty, row, 0.0))
        return None

    def _report(self, history: History, step: int, counts: Series, row: Floats) -> Finding:
        column = int(row.argmax())
        leaf = counts.labels[column]
        # A mask of −inf is as common as a fault is: certainty needs a NaN or a +inf.
        lowest = history[DATA_MINIMUM].column(leaf).since(step).values[:1]
        highest = history[DATA_MAXIMUM].column(leaf).since(step).values[:1]
        masked = np.isneginf(lowest).any() and np.isfinite(highest).all()
        return self.finding(
            history,
            0.7 if masked else 1.0,
            f"tensor '{leaf}' of the batch holds {row[column]:.0f} NaN or infinite values "
            f"at step {step}",
            evidence=(Evidence(DATA_NON_FINITE.tag, float(row[column]), 0.0, f"batch[{leaf}]"),),
            fix="clean the data set: drop such samples, or fill the gaps (torch.nan_to_num)",
            where=f"batch[{leaf}]",
            step=step,
        )


def _went_wrong(history: History, step: int) -> bool | None:
    """Return whether ``step`` was not finite; None where that is not known."""
    watched = [seen_losses(history)]
    if not loss_is_scaled(history):
        watched.append(history[GRADIENT_NORM])
    values = np.concatenate([one.since(step).until(step + 1).values for one in watched])
    if len(values):
        return not bool(np.isfinite(values).all())
    # The step did not end, but its forward pass may have come as far as the loss.
    nan = any(
        _is_nan(loss.operands[:1]) for tape in _tapes_at(history, step) for loss in tape.losses
    )
    return True if nan else None


def _tapes_at(history: History, step: int) -> list[Tape]:
    return [tape for tape in history.tapes if tape.step == step]


def _is_nan(operands: tuple[Operand, ...]) -> bool:
    # Logits may be −inf on purpose, for classes that are ruled out; NaN, which shows in the
    # minimum, they never are.
    return any(
        operand.statistics.get("non_finite", 0.0) > 0
        and np.isnan(operand.statistics.get("minimum", 0.0))
        for operand in operands
    )
