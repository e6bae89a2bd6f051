"""LP904: training waits for its batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import DATA_WAIT

FEW = 0.25
"""Share of the steps of the longest window below which another one says little."""


@dataclass(frozen=True)
class DataStarved(Rule):
    """Training waits for its batches.

    What it detects:
        Time between the end of a step and the start of the next one, validations, ends of epochs
        and checkpoints left out: a quarter of all time and 10 ms a batch, over all of the run and
        in most windows of its steps. It is a remark; where more than half of the time is spent so
        in each of the last three windows, a warning. Nothing is said of the first 50 steps, nor
        before a second has been waited: a machine that is busy with something else looks the same
        for a moment. Where an accelerator is still at work when the batch arrives, nothing is lost
        and nothing is counted.

    Why it matters:
        The same training takes less time with batches that are ready. It says nothing of why a loss
        is high.

    Example:
        >>> from lightning_plateau.testing import history
        >>> times = {"waited": [0.0, 0.03, 0.03, 0.03], "elapsed": [0.0, 0.04, 0.04, 0.04]}
        >>> DataStarved().check(history({DATA_WAIT: times}, every=50)).message
        'of 40 ms a batch, training waits 30 ms (75%) for the next one'

    Remedies:
        Advice only: ``DataLoader(num_workers=..., persistent_workers=True, pin_memory=True)``, or
        work that is done once instead of in every epoch.

    Known limitations:
        It sees the time and not what it goes into: callbacks that write or draw at the end of each
        batch count as waiting too.

    References:
        Mohan et al., 2021, Analyzing and Mitigating Data Stalls in DNN Training (VLDB).
    """

    code: ClassVar[str] = "LP904"
    name: ClassVar[str] = "data-starved"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (DATA_WAIT,)
    why: ClassVar[str] = "the same training takes less time with batches that are ready"

    least_wait_s: float = 0.01
    remarkable: float = 0.25
    most: float = 0.5
    windows: int = 3
    least_steps: int = 50
    least_total_s: float = 1.0

    def check(self, history: History) -> Finding | None:
        """Return a remark where training waits, a warning where it does little else."""
        waited, elapsed, steps = _sound(history[DATA_WAIT])
        if len(waited) < 2 or steps.sum() < self.least_steps:
            return None
        with np.errstate(all="ignore"):
            wait_s, batch_s = (float(np.average(of, weights=steps)) for of in (waited, elapsed))
            total_s = float((waited * steps).sum())
        if not (np.isfinite(batch_s) and batch_s > 0):
            return None
        if wait_s < self.least_wait_s or total_s < self.least_total_s:
            return None
        usual = float(np.median(waited / elapsed))
        if min(usual, wait_s / batch_s) < self.remarkable:
            return None
        finding = self.finding(
            history,
            0.9,
            f"of {1e3 * batch_s:.3g} ms a batch, training waits {1e3 * wait_s:.3g} ms "
            f"({wait_s / batch_s:.0%}) for the next one",
            evidence=(Evidence(DATA_WAIT.tag, wait_s, self.least_wait_s, unit="s"),),
            fix="DataLoader(num_workers=4, persistent_workers=True, pin_memory=True)",
        )
        last = slice(-self.windows, None)
        starved = (waited > self.most * elapsed)[last] & (waited >= self.least_wait_s)[last]
        if len(waited) >= self.windows and starved.all():
            return finding
        return replace(finding, severity=Severity.INFO)


def _sound(times: Series) -> tuple[Floats, Floats, Floats]:
    """Return the seconds of a batch that were waited, all of them, and the steps, by window.

    Windows of few steps, between two looks that came close together, say little and are left out.
    """
    waited, elapsed = (times.column(name).values for name in ("waited", "elapsed"))
    if len(waited) != len(elapsed) or len(waited) != len(times.steps):
        return waited[:0], elapsed[:0], waited[:0]
    steps = np.diff(times.steps, prepend=0).astype(float)
    sound = np.isfinite(elapsed) & (elapsed > 0) & (waited >= 0) & (waited <= elapsed)
    sound &= steps >= FEW * np.max(steps, initial=0.0)
    return waited[sound], elapsed[sound], steps[sound]
