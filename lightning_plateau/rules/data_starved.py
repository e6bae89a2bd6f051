"""LP904: training waits for its batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import Floats, History, Series
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import DATA_WAIT


@dataclass(frozen=True)
class DataStarved(Rule):
    """Training waits for its batches.

    What it detects:
        Time between the end of a step and the start of the next one, validations, ends of epochs
        and checkpoints left out: a quarter of all time and 10 ms a batch, over all of the run. It
        is a remark; where more than half of the time is spent so in each of the last three windows
        of steps, a warning. Where an accelerator is still at work when the batch arrives, nothing
        is lost and nothing is counted.

    Why it matters:
        The same training takes less time with batches that are ready. It says nothing of why a loss
        is high.

    Example:
        >>> from lightning_plateau.testing import history
        >>> times = {"waited": [0.03, 0.03, 0.03], "elapsed": [0.04, 0.04, 0.04]}
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

    def check(self, history: History) -> Finding | None:
        """Return a remark where training waits, a warning where it does little else."""
        waited, elapsed = _sound(history[DATA_WAIT])
        if len(waited) < 2:
            return None
        with np.errstate(all="ignore"):
            wait_s, batch_s = float(waited.mean()), float(elapsed.mean())
        if not (np.isfinite(batch_s) and batch_s > 0):
            return None
        if wait_s < self.least_wait_s or wait_s < self.remarkable * batch_s:
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


def _sound(times: Series) -> tuple[Floats, Floats]:
    """Return the seconds of a batch that were waited, and all of them, by window."""
    waited, elapsed = (times.column(name).values for name in ("waited", "elapsed"))
    if len(waited) != len(elapsed):
        return waited[:0], elapsed[:0]
    sound = np.isfinite(elapsed) & (waited >= 0) & (waited <= elapsed)
    return waited[sound], elapsed[sound]
