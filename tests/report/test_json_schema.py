from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from lightning_plateau.cli import main, parser
from lightning_plateau.core.journal import Journal
from lightning_plateau.report.json_schema import SCHEMAS, schema
from lightning_plateau.testing import history
from tests.report.json_checking import errors
from tests.report.runs import CLIP, DECAY, KEPT, NOT_KEPT, TOO_HIGH

FLAT = history(loss=2.303 + 0.01 * np.sin(np.arange(300.0)))
MODEL = """\
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader, TensorDataset


class Model(LightningModule):
    def __init__(self, lr: float = 0.05):
        super().__init__()
        self.net, self.lr = torch.nn.Linear(3, 1), lr

    def training_step(self, batch, batch_idx):
        points, targets = batch
        loss = torch.nn.functional.mse_loss(self.net(points), targets)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def data():
    points = torch.randn(64, 3)
    return DataLoader(TensorDataset(points, points.sum(1, keepdim=True)), batch_size=8)
"""


@pytest.fixture
def run(tmp_path):
    """A run whose journal holds a treatment that was kept and one that was not."""
    FLAT.save(tmp_path / "history.npz")
    journal = Journal(tmp_path / "journal.jsonl")
    for record in (TOO_HIGH, DECAY, KEPT, CLIP, NOT_KEPT):
        journal.append(record)
    journal.close()
    return str(tmp_path)


def checked(command: list[str], capsys) -> object:
    main(command)
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert list(errors(said, schema(command[0]))) == []
    return said


@pytest.mark.parametrize(
    "command",
    [["rules"], ["remedies"], ["explain", "LP401"], ["explain", "clip-gradients"]],
    ids=" ".join,
)
def test_catalogues_answer_as_their_schemas_say(command, capsys):
    checked([*command, "--json"], capsys)


def test_a_run_is_answered_for_as_the_schemas_say(run, capsys):
    checked(["diagnose", run, "--json"], capsys)
    said = checked(["report", run, "--json"], capsys)
    assert [one["verdict"] for one in said["treatments"]] == ["kept", "reverted"]
    checked(["report", run, run, "--json"], capsys)


def test_a_check_and_the_demo_s_list_answer_as_their_schemas_say(tmp_path, monkeypatch, capsys):
    (tmp_path / "schema_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        target = ["schema_model:Model", "--data", "schema_model:data"]
        checked(["check", *target, "--steps", "20", "--json"], capsys)
    finally:
        sys.modules.pop("schema_model", None)
    checked(["demo", "--fault", "list", "--json"], capsys)


@pytest.mark.slow
def test_the_demo_answers_as_its_schema_says(tmp_path, capsys):
    out = ["--out", str(tmp_path), "--epochs", "1"]
    checked(["demo", "--fault", "dead-units", *out, "--json"], capsys)


@pytest.mark.parametrize("command", SCHEMAS)
def test_schemas_are_printed_as_strict_json(command, capsys):
    assert main(["schema", command]) == 0
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert said["title"] == f"what `lightning-plateau {command} --json` prints"


def test_every_command_that_answers_in_json_has_a_schema():
    (commands,) = parser()._subparsers._group_actions
    answering = {
        name
        for name, command in commands.choices.items()
        if "--json" in command._option_string_actions
    }
    assert answering == set(SCHEMAS)
    with pytest.raises(ValueError, match="expected a command that answers in JSON"):
        schema("completion")


def test_what_differs_from_a_schema_is_found():
    said = {"healthy": 1, "steps": -1, "findings": [{}], "more": 0}
    found = "\n".join(errors(said, schema("diagnose")))
    for part in ("$: no read_from", "expected ['boolean']", "is not in 0", "more is not in", "[0]"):
        assert part in found
