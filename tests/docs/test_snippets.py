"""Every snippet of the documentation: Python is run, page by page, and commands are parsed."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from lightning_plateau.cli import parser
from lightning_plateau.framework import PACKAGE, LightningDataModule
from lightning_plateau.remedies import by_name
from lightning_plateau.rules import catalogue
from tests.digits import Digits, loader

ROOT = Path(__file__).parents[2]
GENERATED = {"rules", "remedies", "experiments", "modules", "_build"}
PAGES = sorted(
    path
    for path in (ROOT / "docs").rglob("*.md")
    if not GENERATED & set(path.relative_to(ROOT / "docs").parts)
)
PAGES += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)(?P=fence)$",
    flags=re.DOTALL | re.MULTILINE,
)
NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*$")


class Data(LightningDataModule):
    """What a snippet calls ``datamodule``."""

    def train_dataloader(self):
        return loader(256)


def snippets(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in one of the languages, save those marked as not run."""
    text = page.read_text(encoding="utf-8")
    return [
        dedent(found["body"])
        for found in FENCE.finditer(text)
        if found["language"] in languages and not NOT_RUN.search(text[: found.start()])
    ]


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of each call of the command line."""
    lines = [
        line
        for body in snippets(page, "sh", "bash", "console")
        for line in body.replace("\\\n", " ").splitlines()
    ]
    called = [re.search(r"\blightning-plateau ([^|>&]+)", line) for line in lines]
    return [shlex.split(found[1], comments=True) for found in called if found]


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def small_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Trainer of a snippet train here, on the CPU, and for a moment."""
    made = __import__(f"{PACKAGE}", fromlist=["Trainer"]).Trainer

    class Trainer(made):
        def __init__(self, **settings: Any) -> None:
            here = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "num_nodes": 1}
            quiet = {"enable_progress_bar": False, "enable_model_summary": False}
            short = {"max_epochs": 1, "limit_train_batches": 12, "limit_val_batches": 2}
            short["enable_checkpointing"] = settings.get("enable_checkpointing", False)
            super().__init__(**{**settings, **here, **quiet, **short})

    monkeypatch.setattr(f"{PACKAGE}.Trainer", Trainer)


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page, "python")], ids=names)
@pytest.mark.usefixtures("small_trainer")
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py"])
    module = type(sys)("snippets")
    monkeypatch.setitem(sys.modules, "snippets", module)  # dataclasses look their module up
    given: dict[str, Any] = vars(module)
    exec("from lightning_plateau import *; import torch", given)
    exec(f"from {PACKAGE} import LightningModule, Trainer", given)
    given |= {"model": Digits(), "train_loader": loader(256), "val_loader": loader(64)}
    given |= {"datamodule": Data(), "my_rules": ()}
    given |= {"make_model": Digits, "make_data": Data}
    for number, body in enumerate(snippets(page, "python"), start=1):
        code = compile(body, f"{names(page)}, snippet {number}", "exec")
        exec(code, given)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=names)
def test_commands_are_ones_that_there_are(page):
    for arguments in commands(page):
        parser().parse_args(arguments)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_rules_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    known = {rule.code: rule.name for rule in catalogue()}
    mentioned = set(re.findall(r"\bLP\d{3}\b", text)) - {"LP903"}
    assert mentioned <= set(known)
    for code, name in re.findall(r"`?(LP\d{3})`? `?([a-z]+(?:-[a-z]+)+)`?", text):
        assert known[code] == name


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_remedies_that_are_linked_exist(page):
    linked = re.findall(r"remedies/([a-z-]+)\.md", page.read_text(encoding="utf-8"))
    assert set(linked) - {"index"} <= set(by_name())
