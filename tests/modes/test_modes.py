"""Each cell of the table is what the row says, and the page of the documentation is the table."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed.fsdp

from lightning_plateau.framework import PACKAGE
from tests.modes.capabilities import ASKED, ask
from tests.modes.mode import CAPABILITIES, MODES, Mode
from tests.modes.page import PAGE, page

callbacks = importlib.import_module(f"{PACKAGE}.callbacks")


def missing(mode: Mode) -> list[pytest.MarkDecorator]:
    """Skip what the Lightning or the torch in use does not have yet."""
    if mode.name.startswith("WeightAveraging") and not hasattr(callbacks, "WeightAveraging"):
        return [pytest.mark.skip("this Lightning has no WeightAveraging")]
    if "ModelParallel" in mode.name and not hasattr(torch.distributed.fsdp, "fully_shard"):
        return [pytest.mark.skip("this torch has no fully_shard")]
    return []


def ranked(mode: Mode) -> list[pytest.MarkDecorator]:
    return [pytest.mark.distributed] if mode.ranks > 1 else []


CELLS = [
    pytest.param(
        mode,
        capability,
        id=f"{mode.name}-{capability}",
        marks=[*([pytest.mark.slow] if mode.slow else []), *ranked(mode), *missing(mode)],
    )
    for mode in MODES
    for capability in CAPABILITIES
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("mode", "capability"), CELLS)
def test_cell(mode: Mode, capability: str, tmp_path: Path) -> None:
    assert ask(mode, capability, tmp_path) == mode.limits.get(capability, "")


def test_every_limit_belongs_to_a_column() -> None:
    assert set(ASKED) == set(CAPABILITIES)
    assert all(set(mode.limits) <= set(CAPABILITIES) for mode in MODES)


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.modes --write-docs"


@pytest.mark.slow
def test_the_other_package_of_lightning() -> None:
    pytest.importorskip("pytorch_lightning")
    program = (
        "import sys, pytorch_lightning\n"
        "from lightning_plateau.framework import PACKAGE\n"
        "from tests.modes.__main__ import main\n"
        "assert PACKAGE == 'pytorch_lightning', PACKAGE\n"
        "sys.exit(main(['--only', '32-true', 'two optimizers']))"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 2 * len(CAPABILITIES)
