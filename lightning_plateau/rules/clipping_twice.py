"""LP309: gradients are clipped twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.ceiling import ceiling
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import CLIP_COEFFICIENT, GRADIENT_NORM


@dataclass(frozen=True)
class ClippingTwice(Rule):
    """Gradients are clipped twice.

    What it detects:
        The Trainer clips by norm, and on all sampled steps less was left of the gradients than that
        accounts for; or most gradients had the same norm before the Trainer clipped them. Something
        else clips as well: a hook, a callback, or ``configure_gradient_clipping``.

    Why it matters:
        It is a remark: the smaller of the two values decides, and the other one has no effect.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.testing import history
        >>> signals = {GRADIENT_NORM: [2.0] * 6, CLIP_COEFFICIENT: [0.05] * 6}
        >>> run = history(signals, loss=[2.3] * 6, profile=Profile(gradient_clip_val=1.0))
        >>> ClippingTwice().check(run).message
        'the Trainer clips the norm at 1, but a typical step is left with 0.1: something clips too'

    Remedies:
        None: remove one of the two.

    Known limitations:
        Only clipping by norm is told apart, and only in automatic optimization.

    References:
        Pascanu et al., 2013, On the difficulty of training recurrent neural networks (ICML). The
        PyTorch Lightning documentation: Gradient clipping.
    """

    code: ClassVar[str] = "LP309"
    name: ClassVar[str] = "clipping-twice"
    severity: ClassVar[Severity] = Severity.INFO
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (CLIP_COEFFICIENT, GRADIENT_NORM)
    why: ClassVar[str] = "the smaller of the two values decides, and the other has no effect"

    minimum_rows: int = 5
    most_of_expected: float = 0.9

    def check(self, history: History) -> Finding | None:
        """Return the fault where the Trainer's clipping is not the only one."""
        profile = history.profile
        limit = profile.gradient_clip_val
        if limit is None or not limit > 0 or profile.gradient_clip_algorithm == "value":
            return None
        if profile.manual_optimization or _changes_gradients(history):
            return None
        held = ceiling(history[GRADIENT_NORM])
        if held is not None:
            return self._report(history, limit, held)
        left = self._left(history, limit)
        return None if left is None else self._report(history, limit, left)

    def _left(self, history: History, limit: float) -> float | None:
        """Return the typical norm after clipping, where the Trainer alone would leave more."""
        coefficients = history[CLIP_COEFFICIENT].finite
        norms = _at(history[GRADIENT_NORM], coefficients)
        known = np.isfinite(norms) & (norms > 0)
        if known.sum() < self.minimum_rows:
            return None
        measured, norms = coefficients.values[known], norms[known]
        expected = np.minimum(1.0, limit / norms)
        if (measured > self.most_of_expected * expected).any():
            return None
        return float(np.median(measured * norms))

    def _report(self, history: History, limit: float, left: float) -> Finding:
        return self.finding(
            history,
            0.9,
            f"the Trainer clips the norm at {limit:.4g}, but a typical step is left with "
            f"{left:.4g}: something clips too",
            evidence=(Evidence("norm after clipping", left, limit),),
            fix="leave one of the two: Trainer(gradient_clip_val=…) or your own call",
        )


def _at(norms: Series, others: Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the values of ``norms`` at the steps of ``others``; NaN where there is none."""
    known = dict(zip(norms.steps.tolist(), norms.values.tolist(), strict=True))
    return np.array([known.get(step, np.nan) for step in others.steps.tolist()])


def _changes_gradients(history: History) -> bool:
    """Whether a step writes into the gradients: Nesterov's momentum does."""
    groups = [group for optimizer in history.profile.optimizers for group in optimizer.groups]
    return any(group.settings.get("nesterov") is True for group in groups)
