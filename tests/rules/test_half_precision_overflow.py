from __future__ import annotations

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.signal import GRADIENT_NORM, LOSS_SCALE
from lightning_plateau.rules.half_precision_overflow import HalfPrecisionOverflow
from lightning_plateau.testing import history

RULE = HalfPrecisionOverflow()
INF = float("inf")


def run(norms: list[float], scale: float = 1024.0, precision: str = "16-mixed") -> History:
    signals = {GRADIENT_NORM: norms, LOSS_SCALE: [65536.0, scale]}
    return history(signals, loss=[2.3] * len(norms), profile=Profile(precision=precision))


@pytest.mark.parametrize(
    ("made", "speaks"),
    [
        (run([1.0] * 50 + ([INF] + [1.0] * 4) * 30), True),
        (run([INF] * 16 + [1.0] * 200), False),
        (run([1.0] * 50 + ([INF] + [1.0] * 49) * 10), False),
        (run([1.0] * 50 + ([INF] + [1.0] * 49) * 4, scale=0.5), True),
        (run([1.0] * 200, scale=0.5), False),
        (run([1.0] * 50 + [INF] * 5), False),
        (run([]), False),
        (run([1.0] * 100, precision="bf16-mixed"), False),
    ],
)
def test_skipped_steps_and_scale(made: History, speaks: bool) -> None:
    assert (RULE.check(made) is not None) is speaks


@pytest.mark.parametrize(
    ("dtype", "last", "speaks"),
    [("float16", INF, True), ("float16", 1.0, False), ("float32", INF, False)],
)
def test_without_a_scaler(dtype: str, last: float, speaks: bool) -> None:
    profile = Profile(parameters=(ParameterFact("w", "", (4, 4), dtype),), precision="16-true")
    made = history({GRADIENT_NORM: [1.0, last]}, loss=[2.3, 2.3], profile=profile)
    assert (RULE.check(made) is not None) is speaks
