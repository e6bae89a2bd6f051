"""LP205: float16 is too narrow for this training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.breakdown import breakdown, loss_is_scaled
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS, LOSS_SCALE


@dataclass(frozen=True)
class HalfPrecisionOverflow(Rule):
    """float16 is too narrow for this training.

    What it detects:
        Under a gradient scaler, a tenth or more of the last 200 steps were skipped because a
        gradient overflowed, or the scale has come down to 1 or below. The first 50 steps, in which
        the scale is found, do not count. Without a scaler, parameters of float16 whose training
        ceased to be finite.

    Why it matters:
        A skipped step trains nothing, though the learning rate's schedule goes on. The largest
        float16 is 65,504, and a scale below 1 means that gradients reach it unscaled.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.testing import history
        >>> norms = [1.0] * 60 + [float("inf"), 1.0, 1.0, 1.0] * 30
        >>> signals = {GRADIENT_NORM: norms, LOSS_SCALE: [65536.0, 2.0]}
        >>> run = history(signals, loss=[2.3] * 180, profile=Profile(precision="16-mixed"))
        >>> HalfPrecisionOverflow().check(run).message
        '30 of the last 130 steps were skipped: gradients overflowed float16 (the loss is now
        multiplied by 2)'

    Remedies:
        Advice only: ``precision="bf16-mixed"``, which has the range of float32.

    Known limitations:
        Gradients that are NaN for another reason are skipped by the scaler as well; LP102, LP204
        and LP207 name such reasons.

    References:
        Micikevicius et al., 2018, Mixed Precision Training (ICLR). Kalamkar et al., 2019, A Study
        of BFLOAT16 for Deep Learning Training.
    """

    code: ClassVar[str] = "LP205"
    name: ClassVar[str] = "half-precision-overflow"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (GRADIENT_NORM, LOSS, LOSS_SCALE)
    explains: ClassVar = (
        "LP202",
        "LP203",
        "LP303",
        "LP306",
        "LP401",
        "LP405",
        "LP414",
        "LP802",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "a skipped step trains nothing, though the schedule goes on"

    recent: int = 200
    calibration: int = 50
    most_share: float = 0.1
    least_skipped: int = 10
    lowest_scale: float = 1.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where gradients overflow again and again."""
        if not loss_is_scaled(history):
            return self._unscaled(history)
        norms = history[GRADIENT_NORM].since(self.calibration).tail(self.recent)
        skipped = int((~np.isfinite(norms.values)).sum())
        often = skipped >= max(self.least_skipped, self.most_share * len(norms))
        scale = history[LOSS_SCALE].last
        if not often and not (scale <= self.lowest_scale and skipped):
            return None
        known = f" (the loss is now multiplied by {scale:.4g})" if np.isfinite(scale) else ""
        return self.finding(
            history,
            0.85,
            f"{skipped} of the last {len(norms)} steps were skipped: gradients overflowed float16"
            + known,
            evidence=(
                Evidence("share of steps skipped", skipped / max(1, len(norms)), self.most_share),
                Evidence(LOSS_SCALE.tag, scale, self.lowest_scale),
            ),
            fix='Trainer(precision="bf16-mixed")',
        )

    def _unscaled(self, history: History) -> Finding | None:
        """Judge a training whose parameters are float16, without a scaler."""
        half = [p for p in history.profile.parameters if p.trainable and p.dtype == "float16"]
        broke = breakdown(history).step
        if not half or broke is None:
            return None
        return self.finding(
            history,
            0.7,
            f"parameters are float16 ({len(half)} of them) and nothing scales the loss: step "
            f"{broke} was not finite",
            evidence=(Evidence("parameters of float16", float(len(half)), 0.0),),
            fix='Trainer(precision="bf16-mixed")',
            step=broke,
        )
