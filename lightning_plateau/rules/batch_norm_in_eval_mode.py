"""LP603: batch norm uses running statistics while the network trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.normalization import BatchNormCall, batch_norm_calls, latest_moments
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    NORMALIZATION_BATCH_MEAN,
    NORMALIZATION_BATCH_VARIANCE,
    NORMALIZATION_RUNNING_MEAN,
    NORMALIZATION_RUNNING_VARIANCE,
)
from lightning_plateau.core.tape import Tape


@dataclass(frozen=True)
class BatchNormInEvalMode(Rule):
    """Batch norm uses frozen statistics while the network trains.

    What it detects:
        A batch norm that normalizes by its running statistics in training, behind weights that are
        trained and with a scale that is not frozen. It is certain where these are still the 0 and 1
        that every layer starts with, though the batches are far from that: then the layer
        normalizes nothing. Statistics of a pretrained network are a fault only where the batches
        have moved away from them, and while training fails.

    Why it matters:
        A layer that is not normalized does not hold the scale of activations: deep networks that
        rely on it diverge or stall. Frozen statistics do not follow the weights that feed them.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> x = Operand("operation", 0, shape=(8, 4))
        >>> norm = Operation(1, "batch_norm", "bn", (x,), attributes={"training": False})
        >>> statistics = {
        ...     NORMALIZATION_RUNNING_MEAN: {"bn": [0.0]},
        ...     NORMALIZATION_RUNNING_VARIANCE: {"bn": [1.0]},
        ...     NORMALIZATION_BATCH_MEAN: {"bn": [0.0]},
        ...     NORMALIZATION_BATCH_VARIANCE: {"bn": [25.0]},
        ... }
        >>> fc = Operation(0, "linear", operands=(Operand("parameter", name="w"),))
        >>> run = history(statistics, tapes=[Tape(0, (fc, norm), root=1)])
        >>> BatchNormInEvalMode().check(run).message
        'bn normalizes by statistics that were never updated (0 and 1), 5-fold off its batches'

    Remedies:
        Advice only: ``layer.train()``; ``training=self.training`` in the functional form. To keep
        the statistics of a pretrained network, freeze its weights too.

    Known limitations:
        Only looked at on sampled steps. Layers that are frozen on purpose are recognized by a scale
        whose ``requires_grad`` is off, or by having nothing to train before them.

    References:
        Ioffe and Szegedy, 2015, Batch Normalization (ICML), section 3.1.
    """

    code: ClassVar[str] = "LP603"
    name: ClassVar[str] = "batch-norm-in-eval-mode"
    requires: ClassVar = (
        NORMALIZATION_RUNNING_MEAN,
        NORMALIZATION_RUNNING_VARIANCE,
        NORMALIZATION_BATCH_MEAN,
        NORMALIZATION_BATCH_VARIANCE,
    )
    explains: ClassVar = (
        "LP301",
        "LP302",
        "LP303",
        "LP306",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP405",
        "LP602",
        "LP706",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "frozen statistics do not follow the weights: the scale is not held"

    least_disparity: float = 2.0

    def check(self, history: History) -> Finding | None:
        """Return the fault at the layer whose statistics are farthest off."""
        tape = history.last_tape
        if tape is None:
            return None
        always = _frozen(history, tape)
        moments = latest_moments(history) if always else {}
        frozen = {call.name: call for call in always if call.name in moments}
        off = {
            name: moments[name]
            for name in frozen
            if moments[name].disparity >= self.least_disparity
        }
        if not off:
            return None
        # A layer that has never seen a batch says more than one that has moved away since.
        worst = max(off, key=lambda name: (off[name].untouched, off[name].disparity))
        seen = off[worst]
        statistics = "that were never updated (0 and 1)" if seen.untouched else "that are frozen"
        more = f", and {len(off) - 1} more of its kind" if len(off) > 1 else ""
        return self.finding(
            history,
            self._confidence(history, untouched=seen.untouched),
            f"{worst} normalizes by statistics {statistics}, {seen.disparity:.3g}-fold off its "
            f"batches{more}",
            evidence=(
                Evidence("disparity", seen.disparity, self.least_disparity, worst),
                Evidence(NORMALIZATION_BATCH_VARIANCE.tag, seen.batch_variance, None, worst),
                Evidence(NORMALIZATION_RUNNING_VARIANCE.tag, seen.running_variance, None, worst),
            ),
            fix="call train() on the layer, and F.batch_norm(..., training=self.training) in the "
            "functional form; to keep pretrained statistics, freeze the weights before them too",
            where=worst,
            step=seen.step,
        )

    def _confidence(self, history: History, *, untouched: bool) -> float:
        root, tape = history.profile.module(""), history.last_tape
        # Where the whole module is in evaluation mode, LP902 says so, and says more.
        whole = (root is not None and not root.training) or (tape is not None and not tape.training)
        return 0.65 if not untouched else 0.95 if whole else 1.0


def _frozen(history: History, tape: Tape) -> list[BatchNormCall]:
    """Return the calls of layers that always run as in evaluation, though something trains."""
    calls = batch_norm_calls(tape)
    trained = {call.name for call in calls if call.training}
    still = history.profile.frozen
    return [
        call
        for call in calls
        if call.name not in trained and call.operation.requires_grad and call.scale not in still
    ]
