"""What a check is pointed at, by name and by configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_plateau.cli import main
from lightning_plateau.targets import find_target, load

PROJECT = """
import torch
from lightning.pytorch import LightningDataModule
from tests.digits import Digits, loader

class Data(LightningDataModule):
    def __init__(self, size: int = 512):
        super().__init__()
        self.size = size
    def train_dataloader(self):
        return loader(self.size)

class Doubled(Digits):
    def forward(self, images):
        return super().forward(images).softmax(dim=1)

class Lit(Digits):
    def __init__(self, lr: float = 0.01):
        super().__init__(lr)

batches = loader(512)
ready = Lit()
"""
CONFIG = """
seed_everything: false
trainer: {accelerator: cpu, max_epochs: 3, precision: bf16-mixed, logger: null}
model: {class_path: a_project.Lit, init_args: {lr: 0.02}}
data: {class_path: a_project.Data, init_args: {size: 256}}
ckpt_path: null
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "a_project.py").write_text(PROJECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("a_project", None)


def test_names_of_classes_and_of_objects() -> None:
    target = find_target("a_project:Lit", "a_project:Data")
    assert type(target.make()).__name__ == "Lit"
    assert target.data.size == 512
    ready = find_target("a_project:ready", "a_project:batches")
    assert ready.make() is load("a_project:ready")
    assert ready.data is load("a_project:batches")


def test_a_configuration_of_lightning_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jsonargparse")
    monkeypatch.setattr(sys, "argv", ["lightning-plateau"])
    (tmp_path / "config.yaml").write_text(CONFIG)
    target = find_target("config.yaml")
    assert (target.make().lr, target.data.size) == (0.02, 256)
    assert dict(target.trainer) == {
        "accelerator": "cpu",
        "max_epochs": 3,
        "precision": "bf16-mixed",
    }


@pytest.mark.parametrize(
    "text", ["model: {lr: 1.0}", "- a list", "trainer: [1", "model: {class_path: nowhere.Lit}"]
)
def test_a_configuration_that_tells_no_classes(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        find_target("config.yaml")


def test_the_command_exits_with_one_where_something_is_wrong(capsys: Any) -> None:
    arguments = ["--data", "a_project:Data", "--steps", "20", "--json"]
    assert main(["check", "a_project:Lit", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["healthy"] is True
    assert main(["check", "a_project:Doubled", *arguments]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["code"] == "LP701"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a_project"], "expected pkg.module:name, but received 'a_project'"),
        (["a_project:Missing"], "has no attribute 'Missing'"),
        (["nowhere:Lit"], "No module named 'nowhere'"),
        (["missing.yaml"], "there is no configuration missing.yaml"),
    ],
)
def test_wrong_usage_is_said_in_a_line(arguments: list[str], said: str, capsys: Any) -> None:
    assert main(["check", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_loader_can_be_the_data(capsys: Any) -> None:
    arguments = ["check", "a_project:ready", "--data", "a_project:batches", "--steps", "10"]
    assert main(arguments) == 0
    assert "lightning-plateau: healthy" in capsys.readouterr().out
