"""LP301: gradients explode."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import breakdown
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    DATA_NON_FINITE,
    GRADIENT_NORM,
    LOSS,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)
from lightning_plateau.core.statistics import block_medians, noise
from lightning_plateau.core.trend import BLOCKS, trend


@dataclass(frozen=True)
class ExplodingGradients(Rule):
    """Gradients explode.

    What it detects:
        The norm of the gradients has grown tenfold or more, on a log scale four times its noise,
        has stayed there (a single spike does not count), and has done harm: the loss is rising, has
        risen well above its best, or is no longer finite. Norms that grow while the loss falls, as
        in the first steps of most trainings, are healthy. In runs that break within a few steps, an
        update as large as the weights themselves stands for the growth.

    Why it matters:
        One step moves the parameters further than all steps before it, to where the loss says
        nothing; often the next one ends in NaN.

    Example:
        >>> from lightning_plateau.testing import history
        >>> steps = np.arange(100.0)
        >>> growing = 1.12**steps
        >>> run = history({GRADIENT_NORM: growing}, loss=2.0 + 0.01 * growing)
        >>> finding = ExplodingGradients().check(run)
        >>> finding.message
        'the gradient norm grew from 1.3 to 4.5e+04 and the loss rose to 596'
        >>> calm = history({GRADIENT_NORM: growing}, loss=2.0 * 0.97**steps)
        >>> ExplodingGradients().check(calm) is None
        True

    Remedies:
        clip-gradients bounds the step at what has been usual; decay-learning-rate where the growth
        comes from steps that are too long; roll-back returns to before the explosion.

    Known limitations:
        It cannot tell whether the network amplifies gradients (recurrence, initialization) or the
        steps are too long: LP406 measures the latter. Gradients that are large but steady from the
        start, as of unscaled targets, do not explode.

    References:
        Pascanu et al., 2013, On the difficulty of training recurrent neural networks (ICML).
        Kumar et al., 2025, ZClip: Adaptive Spike Mitigation for LLM Pre-Training.
    """

    code: ClassVar[str] = "LP301"
    name: ClassVar[str] = "exploding-gradients"
    requires: ClassVar = (GRADIENT_NORM, LOSS, UPDATE_RATIOS, PARAMETER_NORMS, DATA_NON_FINITE)
    explains: ClassVar = (
        "LP201",
        "LP202",
        "LP203",
        "LP204",
        "LP205",
        "LP206",
        "LP303",
        "LP306",
        "LP307",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP706",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = (
        "clip-gradients",
        "decay-learning-rate",
        "normalize-gradients",
        "roll-back",
    )
    why: ClassVar[str] = "one step moves the parameters further than all steps before it"

    recent_past: int = 50
    minimum_rows: int = 4
    least_growth: float = 10.0
    z_limit: float = 4.0
    largest_update: float = 1.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where the norm has grown, stays grown and does harm."""
        found = self._found(history)
        # Long steps and large gradients make each other: the more probable one explains the other.
        return None if found is None else replace(found, explains=(*found.explains, "LP406"))

    def _found(self, history: History) -> Finding | None:
        harm = _harm(history)
        if harm is None:
            return None
        norms = history[GRADIENT_NORM].finite
        values = norms.values[norms.values > 0.0]
        if len(values) < self.minimum_rows:
            return self._at_once(history, values)
        now, before, jitter = self._levels(history, np.log(values))
        growth = now - before
        if growth < math.log(self.least_growth) or growth < self.z_limit * jitter:
            return None
        low, high = math.exp(before), math.exp(now)
        return self.finding(
            history,
            min(0.9, 0.5 + 0.1 * growth / math.log(10)),
            f"the gradient norm grew from {low:.2g} to {high:.2g} and {harm}",
            evidence=(
                Evidence(GRADIENT_NORM.tag, high, self.least_growth * low, "now"),
                Evidence(GRADIENT_NORM.tag, low, where="before"),
            ),
            fix="Trainer(gradient_clip_val=1.0), or a smaller learning rate",
            step=breakdown(history).step,
        )

    def _levels(self, history: History, logs: Floats) -> tuple[float, float, float]:
        """Return the level of the log norm now, the level it grew from, and its noise there."""
        falling = trend(history[LOSS]).falling
        if breakdown(history).origin is None:
            now = float(np.median(logs[-max(3, len(logs) // 10) :]))
            return now, float(block_medians(logs, BLOCKS).min()), noise(logs)
        # The steps before a breakdown are few, so two of them must do, beside the recent past. What
        # grew long ago counts only where it did not go with a falling loss.
        now, past = float(logs[-2:].min()), logs[:-2]
        before = float(np.median(past[-self.recent_past :]))
        if not falling:
            before = min(before, float(block_medians(past, BLOCKS).min()))
        return now, before, noise(past)

    def _at_once(self, history: History, values: Floats) -> Finding | None:
        """Judge a run that broke before its norms could show a growth."""
        broke = breakdown(history)
        ratios = history[UPDATE_RATIOS]
        if broke.origin is None or not len(ratios) or _dirty(history):
            return None
        first = ratios.values[0]
        usable = np.where(np.isfinite(first), first, 0.0)
        # A parameter that starts at zero has no size that its update could be compared with.
        if not len(usable) or float(np.median(usable)) < self.largest_update:
            return None
        norm = float(values[-1]) if len(values) else float("inf")
        size = float(np.median(usable))
        return self.finding(
            history,
            0.7,
            f"the first update is {size:.2g} times as large as the weights (gradient norm "
            f"{norm:.2g}), and nothing was finite from step {broke.step} on",
            evidence=(Evidence(UPDATE_RATIOS.tag, size, self.largest_update, "median parameter"),),
            fix="Trainer(gradient_clip_val=1.0), or a smaller learning rate",
            step=broke.step,
        )


def _harm(history: History) -> str | None:
    """Return what has become of the loss, in words; None where it is no worse than it was."""
    if breakdown(history).origin is not None:
        return "the training ceased to be finite"
    loss = trend(history[LOSS])
    if loss.rows < 2 or loss.falling:
        return None
    risen = loss.last - loss.lowest > max(0.25 * loss.scale, 3 * loss.noise)
    return f"the loss rose to {loss.last:.3g}" if loss.rising or risen else None


def _dirty(history: History) -> bool:
    """Whether the batches held NaN or infinities, which break any run at once."""
    return bool((history[DATA_NON_FINITE].values > 0.0).any())
