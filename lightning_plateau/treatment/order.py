"""The order in which the findings of a run that may begin again are treated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lightning_plateau.core.finding import Finding
from lightning_plateau.core.fitting import fitting
from lightning_plateau.core.history import History
from lightning_plateau.core.updates import adaptive

SWITCH, BACK = "switch-optimizer", "roll-back"
DIVERGED, LEAPT = "LP402", "LP404"
"""Codes of a loss that rose from where it had come down to, and of one that leapt."""
TOO_LITTLE = frozenset({"LP401", "LP405", "LP407"})
"""Codes of runs whose steps may lead nowhere because they are of the wrong kind."""
LEARNED_BY_HEART, BY_ITSELF = 0.25, 0.1
"""Share of its loss that one batch must lose, and share of that by the run's own optimizer."""
FIRST_WEIGHTS = frozenset({"LP504", "LP505", "LP706"})
"""Codes of faults of the first weights."""
LATER = frozenset({"LP301", "LP406"})
"""Codes of what happens from the first step on, and cannot account for how the run began."""


def first_weights_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings of a run that may begin again in the order in which to treat them.

    Where the first weights are off scale, steps that are too long may be but what comes of it; no
    rate and no limit mends such weights, and to begin again with better ones costs nothing.
    """
    later = next((i for i, f in enumerate(findings) if f.code in LATER), None)
    if later is None:
        return tuple(findings)
    early = [
        replace(f, explained_by="")
        for f in findings[later:]
        if f.code in FIRST_WEIGHTS and f.explained_by in ("", *LATER)
    ]
    codes = {finding.code for finding in early}
    return (*findings[:later], *early, *(f for f in findings[later:] if f.code not in codes))


def other_steps_first(findings: Sequence[Finding], history: History) -> tuple[Finding, ...]:
    """Return the findings with the remedy first that an experiment speaks for.

    Where a batch is learned by heart with Adam, and not with the run's own optimizer, which scales
    its steps with the gradient, other steps are what the run lacks, not longer ones.
    """
    fitted = fitting(history)
    by_adam_alone = (
        fitted is not None
        and fitted.best >= LEARNED_BY_HEART
        and not fitted.own > BY_ITSELF * fitted.best
    )
    if not by_adam_alone or adaptive(history):
        return tuple(findings)
    return tuple(
        replace(f, remedies=(SWITCH, *(name for name in f.remedies if name != SWITCH)))
        if f.code in TOO_LITTLE and f.remedies
        else f
        for f in findings
    )


def back_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings with the way back first where what was learned is being lost.

    A remedy of the cause alone would go on from the weights that the loss has risen with.
    """
    lost = any(f.code == DIVERGED or (f.code == LEAPT and BACK in f.remedies) for f in findings)
    return tuple(
        replace(f, remedies=(BACK, *(name for name in f.remedies if name != BACK)))
        if lost and BACK in f.remedies
        else f
        for f in findings
    )
