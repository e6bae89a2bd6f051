from __future__ import annotations

import json

import pytest

from lightning_plateau import cli
from lightning_plateau.callback import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal
from lightning_plateau.demo import FAULTS, describe_faults, run_demo, train
from lightning_plateau.demo.run import DEFAULT_FAULT
from lightning_plateau.report.terminal import summary


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAULTS if name != "healthy"])
def test_every_fault_is_found_by_its_own_code_and_accounts_for_all_else(name, tmp_path):
    fault = FAULTS[name]
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path))
    train(fault, callback)
    shown = [f for f in callback.findings if f.severity != "info" and not f.explained_by]
    assert [finding.code for finding in shown] in [[code] for code in fault.expected]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["safe", "auto"])
def test_the_healthy_run_is_healthy_and_left_alone(policy, tmp_path):
    result = run_demo("healthy", policy=policy, out=tmp_path, progress_bar=False)
    callback = result.callback
    assert result.untreated == result.treated >= 0.95
    assert [f.code for f in callback.findings if f.severity != "info"] == []
    assert callback.journal.interventions == ()
    assert "healthy. No fault" in summary(callback.findings, callback.journal, callback.history)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["learning-rate-too-high", "exploding-gradients", "nan-batch"])
def test_what_can_be_treated_is_treated(fault, tmp_path):
    result = run_demo(fault, policy="auto", out=tmp_path, progress_bar=False)
    assert result.treated > result.untreated + 0.3


def test_the_files_of_both_runs_are_written_anew_each_time(tmp_path, capsys):
    for _ in range(2):
        run_demo("healthy", epochs=1, out=tmp_path / "out", progress_bar=False)
    said = capsys.readouterr().out
    assert "accuracy on the 360 test images" in said
    for folder in (tmp_path / "out", tmp_path / "out" / "untreated"):
        assert History.load(folder / "history.npz").step == 38
        lines = (folder / "journal.jsonl").read_text().splitlines()
        assert sum("start" in json.loads(line).get("text", "") for line in lines) <= 1
        assert len(Journal.read(folder / "journal.jsonl")) == len(lines)
    assert (tmp_path / "out" / "overview.png").stat().st_size > 10_000


@pytest.mark.parametrize("epochs", [0, -1])
def test_no_epochs_are_refused(epochs, tmp_path):
    with pytest.raises(ValueError, match=f"at least 1, but is {epochs}"):
        run_demo("healthy", epochs=epochs, out=tmp_path)


def test_the_command_has_the_default_of_the_function():
    assert cli.parser().parse_args(["demo"]).fault == DEFAULT_FAULT


def test_every_fault_is_described():
    lines = describe_faults().splitlines()
    assert [line.split()[0] for line in lines] == list(FAULTS)
