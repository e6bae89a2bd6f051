"""The architecture enforces itself: imports point down, and reasoning needs no torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")
ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> tuple[int, str]:
    """Run import-linter on the tree in ``folder``; return its exit status and what it says."""
    # First on the path, so that this tree is looked at and not the one that is installed.
    first = f"import sys; sys.path.insert(0, {str(folder)!r})"
    run = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", f"{first}; {run}", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package and of its contracts."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lightning_plateau", tmp_path / "lightning_plateau", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    status, said = lint(ROOT)
    assert status == 0, said


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("rules/flat_loss.py", "import torch", "Reasoning needs neither torch"),
        ("rules/flat_loss.py", "from lightning_plateau.rules import no_gradient", "another rule"),
        ("core/finding.py", "import lightning_plateau.rules", "down the layers"),
        ("recording/store.py", "import lightning_plateau.callback", "down the layers"),
    ],
)
def test_an_import_that_points_up_breaks_them(
    file: str, line: str, contract: str, tree: Path
) -> None:
    path = tree / "lightning_plateau" / file
    path.write_text(path.read_text() + f"\n{line}\n")
    status, said = lint(tree)
    assert status != 0
    broken = said[said.index("Broken contracts") :]
    assert contract in broken, said


def test_a_new_module_must_be_given_its_place(tree: Path) -> None:
    (tree / "lightning_plateau" / "stray.py").write_text('"""Belongs nowhere."""\n')
    status, said = lint(tree)
    assert status != 0
    assert "stray" in said
