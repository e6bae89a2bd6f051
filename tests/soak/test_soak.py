"""A slice of the soak; the whole of it is ``python -m tests.soak``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.__main__ import soak
from tests.soak.injection import KINDS, plan


def test_every_kind_gets_its_turn() -> None:
    assert {injection.kind for injection in plan(len(KINDS), seed=5)} == set(KINDS)
    assert plan(50, seed=5) == plan(50, seed=5) != plan(50, seed=6)


@pytest.mark.distributed
@pytest.mark.slow
def test_a_dozen_faults(tmp_path: Path) -> None:
    results = soak(plan(12, seed=4), tmp_path)
    assert len(results) == 12
    assert [result for result in results if result["problems"]] == []
