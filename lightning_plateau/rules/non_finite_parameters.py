"""LP203: parameters are NaN or infinite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import breakdown
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS, PARAMETER_NORMS


@dataclass(frozen=True)
class NonFiniteParameters(Rule):
    """Parameters are NaN or infinite.

    What it detects:
        A parameter whose norm is NaN or infinite, while the loss or the gradients are not finite
        either. The finding names the parameters, and says so where they broke first: then the
        update itself overflowed, not the loss.

    Why it matters:
        The model is lost. No learning rate and no amount of data brings a NaN parameter back; only
        a checkpoint or a snapshot does.

    Example:
        >>> from lightning_plateau.testing import history
        >>> nan = float("nan")
        >>> run = history({PARAMETER_NORMS: {"fc.weight": [1.0, nan]}}, loss=[2.0, nan])
        >>> NonFiniteParameters().check(run).message
        '1 of 1 parameters are not finite after step 1: fc.weight'

    Remedies:
        roll-back returns to the last parameters that were finite; without a snapshot,
        stop-training: further steps cannot help.

    Known limitations:
        Parameters are looked at on sampled steps, so the step named may come later than the step
        that did it. A NaN in a parameter that nothing uses is not reported.

    References:
        Goodfellow et al., 2016, Deep Learning, section 4.1 (overflow and underflow).
    """

    code: ClassVar[str] = "LP203"
    name: ClassVar[str] = "non-finite-parameters"
    symptom: ClassVar[bool] = True
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (PARAMETER_NORMS, LOSS, GRADIENT_NORM)
    explains: ClassVar = ("LP605",)
    remedies: ClassVar = ("roll-back", "stop-training")
    why: ClassVar[str] = "a NaN parameter stays NaN whatever the training does"

    most_named: int = 3

    def check(self, history: History) -> Finding | None:
        """Return the fault where parameters are not finite and the run has not recovered."""
        broke = breakdown(history)
        if broke.parameters is None:
            return None
        norms = history[PARAMETER_NORMS]
        row = norms.since(broke.parameters).values[0]
        ever = np.isfinite(norms.until(broke.parameters).values).any(axis=0)
        lost = np.isinf(row) | (np.isnan(row) & (ever if ever.any() else True))
        names = [label for label, bad in zip(norms.labels, lost, strict=True) if bad]
        listed = ", ".join(names[: self.most_named])
        more = f" and {len(names) - self.most_named} more" if len(names) > self.most_named else ""
        finding = self.finding(
            history,
            0.99,  # a symptom is never more certain than its cause
            f"{len(names)} of {len(norms.labels)} parameters are not finite "
            f"after step {broke.parameters}: {listed}{more}",
            evidence=(
                Evidence("parameters that are not finite", float(len(names)), 0.0, names[0]),
            ),
            fix="resume from a checkpoint written before this step, with the cause mended",
            where=names[0],
            step=broke.parameters,
        )
        led = (*self.explains, *broke.explained_by("parameters"))
        return replace(finding, explains=tuple(dict.fromkeys(led)))
