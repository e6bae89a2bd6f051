"""LP417: the optimizer moves the weights along the gradient, not against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import LOSS, UPDATE_DESCENT


@dataclass(frozen=True)
class UphillUpdates(Rule):
    """The optimizer moves the weights along the gradient, not against it.

    What it detects:
        From the first update on, the cosine between what an update changes and the negative of the
        gradients that it was given is negative, whenever it was looked at. Plain gradient descent
        has a cosine of 1, Adam one of 0.5 or more; momentum may turn it negative for some steps,
        but never at first.

    Why it matters:
        The loss is climbed: it rises, or leaves the scale, whatever the learning rate.

    Example:
        >>> from lightning_plateau.testing import history
        >>> run = history({UPDATE_DESCENT: [-1.0] * 4}, loss=[2.3, 2.9, 4.1, 7.0])
        >>> UphillUpdates().check(run).message
        'updates go along the gradients, not against them: their cosine with the descent is -1.00'

    Remedies:
        Advice only: change the sign in the optimizer's ``step``.

    Known limitations:
        Looked for with one optimizer only, and not where a step evaluates its closure several
        times; ``maximize=True`` is LP415. What another hook does to the gradients after they were
        recorded counts as done by the optimizer.

    References:
        Robbins and Monro, 1951, A Stochastic Approximation Method. Humbatova et al., 2020, Taxonomy
        of Real Faults in Deep Learning Systems (ICSE).
    """

    code: ClassVar[str] = "LP417"
    name: ClassVar[str] = "uphill-updates"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (UPDATE_DESCENT, LOSS)
    explains: ClassVar = (
        "LP201",
        "LP202",
        "LP203",
        "LP301",
        "LP401",
        "LP402",
        "LP404",
        "LP406",
        "LP501",
        "LP803",
        "LP807",
        "LP808",
    )
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "each step makes the loss larger"

    least_cosine: float = 0.1
    minimum_rows: int = 3

    def check(self, history: History) -> Finding | None:
        """Return the fault where every update that was looked at went uphill."""
        optimizers = history.profile.optimizers
        on_purpose = any(g.settings.get("maximize") for one in optimizers for g in one.groups)
        # Of a closure that is evaluated several times the last gradients are known, not the first.
        if on_purpose or any("closure" in one.capabilities for one in optimizers):
            return None
        cosines = history[UPDATE_DESCENT].finite.values
        cosines = cosines[cosines != 0.0]  # of steps that changed nothing
        if len(cosines) < self.minimum_rows or not (cosines < -self.least_cosine).all():
            return None
        typical = float(np.median(cosines))
        return self.finding(
            history,
            0.95,
            "updates go along the gradients, not against them: their cosine with the descent is "
            f"{typical:.2f}",
            evidence=(Evidence(UPDATE_DESCENT.tag, typical, 0.0),),
            fix="subtract in the optimizer's step: p.add_(direction, alpha=-lr)",
            step=int(history[UPDATE_DESCENT].steps[0]),
        )
