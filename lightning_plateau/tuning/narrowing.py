"""A diagnosis narrows a search: what was wrong with a run says where to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution

from lightning_plateau.core.along_update import best_multiple
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import LEARNING_RATES
from lightning_plateau.tuning.fault import beyond_search
from lightning_plateau.tuning.space import Dimension, Space
from lightning_plateau.tuning.spaces import CLIP, DECAY, DROPOUT, RATE, learning_rate, standard

TOO_HIGH, TOO_LOW = "LP406", "LP407"
OVERFITTING = ("LP801", "LP107")
DECAY_TOO_STRONG = ("LP413", "LP806")
EXPLODING = ("LP301", "LP303")
DECADES_BELOW, DECADES_ABOVE = 3.0, 3.0
ORDINARY_UPDATE = 0.01
"""Share of the weights that an update usually changes, and the largest that is aimed at."""


@dataclass(frozen=True)
class Narrowed:
    """Where a diagnosis says to look.

    Attributes:
        space: What is searched.
        first: Values to try first.
        reasons: What was narrowed and why, a line each.
        obstacle: The fault of data or code that no search can mend; None where there is none.
    """

    space: Space
    first: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    obstacle: Finding | None = None


def narrowed(
    findings: tuple[Finding, ...], history: History, given: Space | None = None
) -> Narrowed:
    """Return where to look after a run with these findings.

    A learning rate that was too high or too low counts although another finding accounts for it:
    it is the value that the search is about.

    Args:
        findings: What was wrong with the run.
        history: What was recorded of it.
        given: The space that the user asked for; ranges that a finding speaks of are cut, the
            others kept. None lets the findings choose.

    Example:
        >>> from lightning_plateau.testing import history
        >>> run = history({LEARNING_RATES: {"0": [0.5]}})
        >>> at = Finding("LP406", "learning-rate-too-high", 0, Severity.ERROR, 0.9, "…")
        >>> found = narrowed((at,), run)
        >>> found.space.dimensions["learning_rate"].distribution
        FloatDistribution(high=0.25, log=True, low=0.00025, step=None)
    """
    codes = {one.code: one for one in findings if one.severity is not Severity.INFO}
    obstacle = next((one for one in findings if _forbids(one)), None)
    rate = _rate(history)
    space = given if given is not None else _chosen(codes)
    made = Narrowed(space, obstacle=obstacle)
    if rate is not None and TOO_HIGH in codes:
        made = _lower(made, rate, codes[TOO_HIGH], history)
    elif rate is not None and TOO_LOW in codes:
        made = _higher(made, rate, codes[TOO_LOW], history)
    if given is None:
        made = _regularized(made, codes, history)
    return _weaker_decay(made, codes, history)


def _forbids(finding: Finding) -> bool:
    sure = finding.certainty != "possible" and finding.severity is Severity.ERROR
    return sure and not finding.explained_by and beyond_search(finding.code)


def _chosen(codes: Mapping[str, Finding]) -> Space:
    if TOO_HIGH in codes or TOO_LOW in codes:
        return learning_rate
    if any(code in codes for code in (*OVERFITTING, *DECAY_TOO_STRONG, *EXPLODING)):
        return learning_rate
    return standard


def _lower(made: Narrowed, rate: float, finding: Finding, history: History) -> Narrowed:
    high = rate / 2
    size = max((one.value for one in finding.evidence), default=1.0)
    tried = best_multiple(history)
    factor = tried if tried is not None and tried < 1.0 else ORDINARY_UPDATE / max(size, 1e-12)
    guess = rate * min(0.5, max(factor, 10.0**-DECADES_BELOW * 2))
    reason = f"{finding.code}: the run's learning rate of {rate:.3g} was too high; searched below"
    return _within(made, "learning_rate", high * 10.0**-DECADES_BELOW, high, guess, reason)


def _higher(made: Narrowed, rate: float, finding: Finding, history: History) -> Narrowed:
    low = 2 * rate
    tried = best_multiple(history)
    size = min((one.value for one in finding.evidence if one.value > 0), default=1e-3)
    factor = max(tried or 0.0, min(1e3, max(3.0, 1e-3 / size)))
    reason = f"{finding.code}: the run's learning rate of {rate:.3g} was too low; searched above"
    return _within(made, "learning_rate", low, low * 10.0**DECADES_ABOVE, rate * factor, reason)


def _regularized(made: Narrowed, codes: Mapping[str, Finding], history: History) -> Narrowed:
    """Add what the findings ask for, where the user left the choice to them."""
    added: dict[str, Dimension] = {}
    reasons = []
    if code := next((code for code in OVERFITTING if code in codes), None):
        added |= {"weight_decay": DECAY, "dropout": DROPOUT}
        reasons.append(f"{code}: the run overfitted; regularization is searched")
        decay = _decay(history)
        if decay > 0:
            low, high = decay, max(decay * 1e3, 1e-1)
            added["weight_decay"] = replace(
                DECAY, distribution=FloatDistribution(low, high, log=True)
            )
            reasons[-1] += f", weight decay above {decay:.3g}"
    if code := next((code for code in EXPLODING if code in codes), None):
        added["gradient_clip_val"] = CLIP
        reasons.append(f"{code}: gradients exploded; clipping is searched")
    return replace(made, space=made.space | Space(added), reasons=(*made.reasons, *reasons))


def _weaker_decay(made: Narrowed, codes: Mapping[str, Finding], history: History) -> Narrowed:
    code = next((code for code in DECAY_TOO_STRONG if code in codes), None)
    decay = _decay(history)
    if code is None or decay <= 0 or code in made.reasons:
        return made
    reason = f"{code}: the run's weight decay of {decay:.3g} was too strong; searched below"
    return _within(made, "weight_decay", decay * 1e-4, decay / 3, decay / 30, reason)


def _within(
    made: Narrowed, name: str, low: float, high: float, guess: float, reason: str
) -> Narrowed:
    """Cut a range to low … high; what the user gave is kept where nothing would be left of it."""
    known = made.space.dimensions.get(name, RATE if name == "learning_rate" else DECAY)
    theirs = known.distribution
    if not isinstance(theirs, FloatDistribution):
        return made
    if known.widest is None:
        low, high = max(low, theirs.low), min(high, theirs.high)
    if not low < high:
        note = f"{reason}, but the range that was given lies elsewhere and is kept"
        return replace(made, reasons=(*made.reasons, note))
    space = made.space.having(name, FloatDistribution(low, high, log=True))
    # Towards the value that was too high (or too low) the range must not be widened again.
    limits = _one_sided(known.widest, low, high, reason)
    space = Space({**space.dimensions, name: replace(space.dimensions[name], widest=limits)})
    first = {**made.first, name: float(np.clip(guess, low, high))}
    return replace(made, space=space, first=first, reasons=(*made.reasons, reason))


def _one_sided(
    widest: tuple[float, float] | None, low: float, high: float, reason: str
) -> tuple[float, float] | None:
    if widest is None:
        return None
    return (widest[0], high) if reason.endswith("below") else (low, widest[1])


def _rate(history: History) -> float | None:
    """Return the largest learning rate of the run; None where none was recorded."""
    rates = history[LEARNING_RATES]
    if not len(rates) or not rates.labels:
        return None
    known = rates.values[np.isfinite(rates.values)]
    return float(known.max()) if len(known) and known.max() > 0 else None


def _decay(history: History) -> float:
    """Return the strongest weight decay of the run's optimizers; 0.0 for none."""
    found = [
        group.settings.get("weight_decay")
        for optimizer in history.profile.optimizers
        for group in optimizer.groups
    ]
    return max((float(one) for one in found if isinstance(one, int | float)), default=0.0)
