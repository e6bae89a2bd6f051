"""A slice of the soak; the whole of it is ``python -m tests.soak``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.injection import KINDS, plan


def test_every_kind_gets_its_turn() -> None:
    assert {injection.kind for injection in plan(len(KINDS), seed=5)} == set(KINDS)
    assert plan(50, seed=5) == plan(50, seed=5) != plan(50, seed=6)


@pytest.mark.distributed
@pytest.mark.slow
def test_a_dozen_faults(tmp_path: Path) -> None:
    # In a process of its own: where a test has asked for a CUDA device, even in vain, Lightning
    # refuses to train in forked ones.
    command = [sys.executable, "-m", "tests.soak", "--faults", "12", "--seed", "4"]
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [*command, "--keep", str(tmp_path)], cwd=root, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\n12 faults in " in ended.stdout
