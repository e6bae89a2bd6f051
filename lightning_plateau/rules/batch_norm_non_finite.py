"""LP605: running statistics are NaN or infinite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import broken_rows
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import BUFFER_NORMS

_STATISTICS = (".running_mean", ".running_var")


@dataclass(frozen=True)
class BatchNormNonFinite(Rule):
    """The running statistics of a batch-norm layer are NaN or infinite.

    What it detects:
        A ``running_mean`` or ``running_var`` whose norm is not finite at the latest sampled step.

    Why it matters:
        A running average never forgets NaN: one bad batch is enough, even if its step was skipped.
        Training, which uses the statistics of the batch, goes on as if nothing were wrong, while
        every evaluation gives NaN.

    Example:
        >>> from lightning_plateau.testing import history
        >>> norms = {BUFFER_NORMS: {"net.1.running_mean": [0.5, float("nan")]}}
        >>> finding = BatchNormNonFinite().check(history(norms, every=50))
        >>> finding.message
        'the running statistics of net.1 are not finite since step 50'

    Remedies:
        restore-batch-norm puts back the last finite statistics; reset-batch-norm starts anew.

    Known limitations:
        Buffers are looked at on sampled steps only. Statistics kept by layers that name their
        buffers otherwise are not seen.

    References:
        Ioffe and Szegedy, 2015, Batch Normalization (ICML).
    """

    code: ClassVar[str] = "LP605"
    name: ClassVar[str] = "batch-norm-non-finite"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (BUFFER_NORMS,)
    explains: ClassVar = ("LP602",)
    remedies: ClassVar = ("restore-batch-norm", "reset-batch-norm")
    why: ClassVar[str] = "a running average never forgets NaN, so every evaluation gives NaN"

    def check(self, history: History) -> Finding | None:
        """Return the fault where running statistics are not finite now."""
        norms = history[BUFFER_NORMS]
        if np.isfinite(norms.last_row).all():
            return None
        columns = [c for c, label in enumerate(norms.labels) if f".{label}".endswith(_STATISTICS)]
        broken = [c for c in columns if len(norms) and not np.isfinite(norms.values[-1, c])]
        if not broken:
            return None
        series = norms.column(norms.labels[broken[0]])
        since = int(series.steps[_last_run(broken_rows(series))])
        layers = tuple(dict.fromkeys(norms.labels[c].rpartition(".")[0] for c in broken))
        more = f" and {len(layers) - 1} more of its kind" if len(layers) > 1 else ""
        known = (
            np.isinf(norms.values[:, broken]).any() or np.isfinite(norms.values[:, columns]).any()
        )
        return self.finding(
            history,
            1.0 if known else 0.9,
            f"the running statistics of {layers[0] or 'the module'}{more} are not finite since "
            f"step {since}",
            evidence=(Evidence("running statistics that are not finite", float(len(broken)), 0.0),),
            fix="find the batch that was not finite (LP102, LP204), then call "
            "layer.reset_running_stats()",
            where=layers[0],
            step=since,
        )


def _last_run(broken: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int:
    """Return the first row of the run of broken rows that the series ends with."""
    whole = np.flatnonzero(~broken)
    return min(len(broken) - 1, int(whole[-1]) + 1 if len(whole) else 0)
