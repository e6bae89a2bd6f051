"""The verdict on a run in words: what is wrong, what the loss did, what to do now."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS
from lightning_plateau.core.trend import loss_trend
from lightning_plateau.report.assessment import Assessment, Health
from lightning_plateau.report.phrases import counted, mending, number


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do now about a finding: the line to change, or where to read on."""

    finding: Finding
    text: str


def said(state: Assessment, history: History) -> str:
    """Say in one sentence what is wrong with the run, without a full stop.

    Example:
        >>> from lightning_plateau.testing import history
        >>> said(Assessment(), history(loss=[2.0, 1.0]))
        'No fault in 2 steps'
    """
    steps = counted(history.step, "step")
    if state.causes:
        return f"{counted(len(state.causes), 'fault')} in {steps}"
    if state.broken:
        return f"The loss is not finite after {steps}"
    if state.health is Health.TREATED:
        found = counted(len(state.passed), "fault")
        kept = len({t.intervention.remedy for t in state.treatments if t.helped})
        return f"{found} found, {counted(kept, 'remedy')} kept, no fault shows after {steps}"
    return f"No fault in {steps}"


def losses(state: Assessment, history: History) -> str:
    """Say what the losses did; empty where none was recorded.

    Example:
        >>> from lightning_plateau.testing import history
        >>> losses(Assessment(), history(loss=[2.0, 1.0]))
        'loss 2 → 1'
    """
    parts = []
    loss = history[LOSS]
    if len(loss):
        trend = loss_trend(history)
        few = trend.rows < 2
        first = float(loss.values[0]) if few else trend.first
        last = loss.last if few or state.broken else trend.last
        parts.append(f"loss {number(first)} → {number(last)}")
    if VALIDATION_LOSS in history:
        parts.append(f"validation loss {number(history[VALIDATION_LOSS].last)}")
    return ", ".join(parts)


def advice(state: Assessment) -> tuple[Advice, ...]:
    """Say what to do now, the most probable cause first.

    A run that was treated needs advice too: what to change, so that the next run needs no
    treatment.

    Example:
        >>> advice(Assessment())
        ()
    """
    treated = {t.intervention.code for t in state.treatments if t.helped}
    left = [cause.finding for cause in state.causes]
    mended = [f for f in state.passed if f.fix and f.code in treated]
    if state.health is Health.HEALTHY:
        return ()
    return tuple(Advice(finding, mending(finding)) for finding in (*left, *mended))
