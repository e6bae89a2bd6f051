"""LP308: gradients of earlier steps are never set to zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENTS_LEFT_OVER


@dataclass(frozen=True)
class GradientsNotZeroed(Rule):
    """Gradients of earlier steps are never set to zero.

    What it detects:
        On every sampled step but the first, three at least, there were gradients before each
        backward since the last step: nothing has cleared them. Accumulation over several batches
        begins without any, so it does not count, and neither do gradients that another optimizer's
        backward leaves behind, as long as they are cleared in time.

    Why it matters:
        Each step adds up the gradients of all batches so far. They point to where the weights have
        been, grow without bound, and the loss swings or diverges.

    Example:
        >>> from lightning_plateau.testing import history
        >>> left = {GRADIENTS_LEFT_OVER: {"0": [0.0, 1.0, 2.1, 2.9]}}
        >>> run = history({**left, GRADIENT_NORM: [1.0, 2.1, 2.9, 4.0]}, loss=[2.3] * 4)
        >>> GradientsNotZeroed().check(run).message
        'each step still holds the gradients of the steps before it: a norm of 2.9 of 4 at step 3'

    Remedies:
        Advice only: call ``optimizer.zero_grad()`` before ``self.manual_backward(loss)``.

    Known limitations:
        A backward that does not go through Lightning (``loss.backward()``) is not seen. An
        optimizer that steps less often than another one cannot be told from one that accumulates
        on purpose, so the finding is less sure there.

    References:
        Jiang et al., 2025, Training with Confidence: Catching Silent Errors in Deep Learning
        Training with Automated Proactive Checks (OSDI).
    """

    code: ClassVar[str] = "LP308"
    name: ClassVar[str] = "gradients-not-zeroed"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (GRADIENTS_LEFT_OVER, GRADIENT_NORM)
    explains: ClassVar = (
        "LP201",
        "LP202",
        "LP203",
        "LP204",
        "LP206",
        "LP301",
        "LP303",
        "LP306",
        "LP307",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP405",
        "LP406",
        "LP501",
        "LP502",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    method: ClassVar[Method] = "training_step"
    why: ClassVar[str] = "each step adds up the gradients of all batches so far"

    minimum_rows: int = 3

    def check(self, history: History) -> Finding | None:
        """Return the fault where gradients were left over on every sampled step."""
        series = history[GRADIENTS_LEFT_OVER]
        later = series.where(series.steps > 0)
        # Their size does not matter, nor whether they were finite: they were there.
        kept = [
            label
            for column, label in enumerate(series.labels)
            if self._always_left(later.values[:, column])
        ]
        if not kept:
            return None
        last = later.column(kept[0])
        norms = history[GRADIENT_NORM].since(int(last.steps[-1]))
        whole = f" of {norms.values[0]:.3g}" if len(norms) else ""
        several = len(history.profile.optimizers) > 1
        which = f" of optimizer {kept[0]}" if several else ""
        return self.finding(
            history,
            0.8 if several else 1.0,
            f"each step{which} still holds the gradients of the steps before it: a norm "
            f"of {last.last:.3g}{whole} at step {last.steps[-1]}",
            evidence=(Evidence(GRADIENTS_LEFT_OVER.tag, last.last, 0.0),),
            fix="call optimizer.zero_grad() before self.manual_backward(loss); if you override "
            "optimizer_zero_grad, let it clear them",
            where=f"optimizer {kept[0]}" if several else "",
            step=int(last.steps[0]),
        )

    def _always_left(self, norms: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
        known = norms[~np.isnan(norms)]
        return len(known) >= self.minimum_rows and bool((known > 0).all())
