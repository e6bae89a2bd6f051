from __future__ import annotations

import pytest

from lightning_plateau.core.tape import Operation, Tape
from lightning_plateau.rules.near_overflow import NearOverflow
from lightning_plateau.testing import history

RULE = NearOverflow()


@pytest.mark.parametrize(
    ("name", "dtype", "low", "high", "speaks"),
    [
        ("linear", "float16", -1.0, 40000.0, True),
        ("conv2d", "float16", -40000.0, 1.0, True),
        ("linear", "float16", -1.0, 30000.0, False),
        ("linear", "bfloat16", -1.0, 40000.0, False),
        ("exp", "float32", 0.0, 3e38, True),
        ("linear", "float32", -1.0, 1e30, False),
        ("masked_fill", "float16", -65504.0, 1.0, False),
        ("linear", "float16", float("nan"), float("inf"), False),
    ],
)
def test_largest_output(name: str, dtype: str, low: float, high: float, speaks: bool) -> None:
    seen = {"minimum": low, "maximum": high}
    operation = Operation(0, name, "fc", dtype=dtype, statistics=seen)
    found = RULE.check(history(loss=[2.3], tapes=[Tape(0, (operation,), root=0)]))
    assert (found is not None) is speaks


def test_a_mask_has_no_gradient() -> None:
    seen = {"minimum": -65504.0, "maximum": 0.0}
    mask = Operation(0, "mul", dtype="float16", statistics=seen, requires_grad=False)
    assert RULE.check(history(loss=[2.3], tapes=[Tape(0, (mask,), root=0)])) is None
