"""LP202: gradients are NaN or infinite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import breakdown
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS, LOSS


@dataclass(frozen=True)
class NonFiniteGradients(Rule):
    """Gradients are NaN or infinite.

    What it detects:
        A gradient that is NaN or infinite, unless the run has recovered from it. The finding names
        the parameters. Under a gradient scaler, steps that overflow now and then are how the scale
        is found; only gradients that stay non-finite to the end count there.

    Why it matters:
        The step spreads NaN into the parameters and into the optimizer's moments, and stays there.
        Clipping by norm makes it worse: a NaN norm turns every gradient into NaN.

    Example:
        >>> from lightning_plateau.testing import history
        >>> norms = {"body.weight": [1.0, float("inf")], "head.weight": [1.0, 2.0]}
        >>> run = history({GRADIENT_NORM: [1.4, float("inf")], GRADIENT_NORMS: norms}, loss=[2, 2])
        >>> finding = NonFiniteGradients().check(run)
        >>> finding.message
        'the gradients of 1 of 2 parameters are not finite at step 1: body.weight'

    Remedies:
        skip-step leaves the step out; decay-learning-rate or roll-back where it happens again.

    Known limitations:
        At the very first step a gradient that is NaN cannot be told from one that is absent, so
        parameters without a gradient may be named too.

    References:
        Micikevicius et al., 2018, Mixed Precision Training (ICLR).
    """

    code: ClassVar[str] = "LP202"
    name: ClassVar[str] = "non-finite-gradients"
    symptom: ClassVar[bool] = True
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (GRADIENT_NORM, GRADIENT_NORMS, LOSS)
    explains: ClassVar = ("LP203", "LP605")
    remedies: ClassVar = (
        "skip-step",
        "replace-non-finite",
        "decay-learning-rate",
        "roll-back",
        "stop-training",
    )
    why: ClassVar[str] = "the step writes NaN into the parameters and the optimizer's moments"

    most_named: int = 3

    def check(self, history: History) -> Finding | None:
        """Return the fault where gradients are not finite and the run has not recovered."""
        broke = breakdown(history)
        if broke.gradients is None:
            return None
        step = broke.gradients
        names, count = _broken_parameters(history, step)
        listed = ", ".join(names[: self.most_named])
        more = f" and {len(names) - self.most_named} more" if len(names) > self.most_named else ""
        message = (
            f"the gradients of {len(names)} of {count} parameters are not finite at step {step}: "
            f"{listed}{more}"
            if names
            else f"the norm of the gradients is not finite at step {step}"
        )
        norms = history[GRADIENT_NORM].since(step)
        finding = self.finding(
            history,
            0.99,  # a symptom is never more certain than its cause
            message,
            evidence=(
                Evidence(GRADIENT_NORM.tag, float(norms.values[0]), where=f"step {step}"),
                Evidence("gradients that are not finite", float(len(names)), 0.0),
            ),
            fix=_fix(history, step),
            where=names[-1] if names else "",
            step=step,
        )
        # Parameters that broke first broke the gradients, not the other way round.
        static = (code for code in self.explains if code != "LP203" or broke.origin != "parameters")
        led = (*static, *broke.explained_by("gradients"))
        return replace(finding, explains=tuple(dict.fromkeys(led)))


def _broken_parameters(history: History, step: int) -> tuple[tuple[str, ...], int]:
    """Return the parameters whose gradient broke at ``step``, and how many have gradients."""
    series = history[GRADIENT_NORMS]
    row = series.since(step).until(step + 1)
    if not len(row):
        return (), len(series.labels)
    before = series.until(step)
    absent = np.isnan(before.values).all(axis=0) if len(before) else np.zeros(len(row.labels), bool)
    broken = ~np.isfinite(row.values[0]) & ~(absent & np.isnan(row.values[0]))
    names = tuple(label for label, bad in zip(row.labels, broken, strict=True) if bad)
    return names, int((~absent).sum())


def _fix(history: History, step: int) -> str:
    loss = history[LOSS].since(step).until(step + 1)
    if len(loss) and np.isfinite(loss.last):
        return (
            "the loss is finite but its derivative is not: look for sqrt, norm, log, acos or a "
            "division at 0, and add an epsilon inside it"
        )
    return "the loss itself is not finite: mend that first"
