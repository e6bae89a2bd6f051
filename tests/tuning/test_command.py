"""The command ``tune``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightning_plateau.cli import main
from lightning_plateau.demo import FAULTS, train
from lightning_plateau.report.json_schema import schema
from lightning_plateau.training.snapshot import randomness_kept
from tests.report.json_checking import errors

MODEL = ["lightning_plateau.demo:DigitsClassifier", "--data", "lightning_plateau.demo:DigitsData"]
SHORT = ["--set", "trainer.limit_train_batches=20", "--epochs", "1", "--trials", "2"]


def test_it_finds_settings_and_writes_them(tmp_path, capsys) -> None:
    out = tmp_path / "found"
    arguments = ["tune", *MODEL, "--over", "learning_rate=0.01,0.02", "--sampler", "grid", *SHORT]
    assert main([*arguments, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "2 trials, 2 trained to the end" in " ".join(said.split())
    assert str(out / "best.yaml") in said
    written = yaml.safe_load((out / "best.yaml").read_text("utf-8"))
    assert written["trainer"] == {"max_epochs": 1, "limit_train_batches": 20}
    assert written["model"]["init_args"]["learning_rate"] in {0.01, 0.02}


def test_json_and_a_configuration_in_and_out(tmp_path, capsys) -> None:
    path = tmp_path / "config.yaml"
    part = "lightning_plateau.demo.tunable"
    content = {
        "model": {"class_path": f"{part}.DigitsClassifier", "init_args": {"width": 4}},
        "data": {"class_path": f"{part}.DigitsData"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0, "momentum": 0.5}},
        "trainer": {"max_epochs": 1, "limit_train_batches": 20, "logger": False},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    over = ["--over", "learning_rate=0.01:0.02:log", "--trials", "1", "--json"]
    assert main(["tune", str(path), *over]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert list(errors(found, schema("tune"))) == []
    made = found["configuration"]
    assert made["model"]["init_args"] == {"width": 4}
    assert made["optimizer"]["init_args"]["momentum"] == 0.5
    assert 0.01 <= made["optimizer"]["init_args"]["lr"] <= 0.02
    assert found["trials"] == {"complete": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "expected pkg.module:name"),
        (["missing.yaml"], "there is no configuration missing.yaml"),
        ([*MODEL, "--from", "nowhere"], "expected a run's plateau folder"),
        ([*MODEL, "--over", "depth=1,2"], "'depth' is no argument"),
    ],
)
def test_wrong_use_is_a_message_and_exit_code_2(arguments, said, capsys) -> None:
    assert main(["tune", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("over", ["width", "width=", "lr=1:0", "lr=0:1:log", "lr=1:2:cubic"])
def test_values_that_are_none_are_refused(over, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", *MODEL, "--over", over])
    assert ended.value.code == 2
    assert "argument --over" in capsys.readouterr().err


def test_nothing_found_is_exit_code_1(tmp_path, capsys) -> None:
    broken = ["--monitor", "no_such_metric"]
    assert main(["tune", *MODEL, "--over", "learning_rate=0.01", *SHORT, *broken]) == 1
    assert "expected 'no_such_metric'" in capsys.readouterr().out


def test_json_of_a_search_that_ended_sick_or_found_nothing(capsys) -> None:
    sick = ["--over", "learning_rate=1e-7", *SHORT, "--epochs", "3", "--json"]
    broken = ["--over", "learning_rate=0.01", *SHORT, "--monitor", "no_such_metric", "--json"]
    for arguments in (sick, broken):
        main(["tune", *MODEL, *arguments])
        said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert list(errors(said, schema("tune"))) == []


CLI = """
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningCLI
from lightning_plateau import PlateauCallback

watch = PlateauCallback(policy="observe", experiments="never", quiet=True)
cli = LightningCLI(trainer_defaults={"callbacks": [watch], "logger": False,
                                     "enable_checkpointing": False})
print("accuracy", float(cli.trainer.callback_metrics["val_accuracy"]))
print("findings", [one.code for one in watch.findings if one.severity != "info"])
"""


@pytest.mark.slow
def test_a_sick_run_leads_to_settings_that_train_healthy(tmp_path: Path, monkeypatch) -> None:
    from lightning_plateau import PlateauCallback

    watch = PlateauCallback(policy="observe", dirpath=str(tmp_path / "sick"), quiet=True)
    with randomness_kept():
        accuracy = train(FAULTS["learning-rate-too-high"], watch)
    assert accuracy < 0.5
    assert watch.findings[0].code == "LP406"
    sick = ["--from", str(tmp_path / "sick"), "--trials", "8", "--out", str(tmp_path)]
    assert main(["tune", *MODEL, *sick]) == 0
    (tmp_path / "main.py").write_text(CLI, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "main.py", "fit", "--config", "best.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    said = dict(
        line.split(" ", 1)
        for line in done.stdout.splitlines()
        if line[:8] in ("accuracy", "findings")
    )
    assert float(said["accuracy"]) > 0.95
    assert said["findings"] == "[]"
