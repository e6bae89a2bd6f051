from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from lightning_plateau.cli import main
from lightning_plateau.core.journal import Journal
from lightning_plateau.rules import catalogue
from lightning_plateau.testing import history
from tests.report.runs import DECAY, KEPT, TOO_HIGH

WOBBLE = 0.01 * np.sin(np.arange(300.0))
FLAT = history(loss=2.303 + WOBBLE)
FALLING = history(loss=2.303 * 0.99 ** np.arange(300.0) + WOBBLE)


@pytest.fixture
def run_of(tmp_path):
    def save(made):
        made.save(tmp_path / "history.npz")
        return str(tmp_path)

    return save


def test_diagnose_ends_with_1_when_a_fault_is_found(run_of, capsys):
    assert main(["diagnose", run_of(FLAT)]) == 1
    assert "LP401 flat-loss" in capsys.readouterr().out


def test_diagnose_ends_with_0_for_a_healthy_run(run_of, capsys):
    assert main(["diagnose", run_of(FALLING)]) == 0
    assert "healthy. No fault in 300 steps" in capsys.readouterr().out


def test_diagnose_as_json_is_strict_json(run_of, capsys):
    assert main(["diagnose", "--json", run_of(FLAT)]) == 1
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (document["healthy"], document["steps"]) == (False, 300)
    assert document["findings"][0]["code"] == "LP401"


def test_all_shows_each_finding_in_full(run_of, capsys):
    main(["diagnose", "--all", run_of(FLAT)])
    assert "check    lightning-plateau explain LP401" in capsys.readouterr().out


def test_report_tells_what_was_done_and_draws_it(run_of, tmp_path, capsys):
    folder = run_of(FALLING)
    journal = Journal(tmp_path / "journal.jsonl")
    for record in (TOO_HIGH, DECAY, KEPT):
        journal.append(record)
    journal.close()
    assert main(["report", folder, "--plot"]) == 0
    said = capsys.readouterr().out
    assert "treated. 1 fault found" in said
    assert str(tmp_path / "overview.png") in said
    assert (tmp_path / "overview.png").stat().st_size > 1000
    assert main(["report", folder, "--plot", str(tmp_path / "elsewhere" / "a.svg")]) == 0
    assert (tmp_path / "elsewhere" / "a.svg").exists()


def test_report_as_a_page_lands_beside_the_run_or_where_it_is_told(run_of, tmp_path, capsys):
    folder = run_of(FLAT)
    assert main(["report", folder, "--html"]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    assert "LP401" in (tmp_path / "report.html").read_text("utf-8")
    assert main(["report", folder, "--html", str(tmp_path / "elsewhere" / "a.html")]) == 0
    assert (tmp_path / "elsewhere" / "a.html").exists()


@pytest.mark.parametrize("wanted", ["LP401", "flat-loss"])
def test_explain(wanted, capsys):
    assert main(["explain", wanted]) == 0
    assert "What it detects:" in capsys.readouterr().out


def test_explain_of_an_unknown_rule(capsys):
    assert main(["explain", "flat-los"]) == 2
    assert "did you mean flat-loss" in capsys.readouterr().err


def test_rules(capsys):
    assert main(["rules"]) == 0
    assert "LP401 flat-loss" in capsys.readouterr().out
    assert main(["rules", "--json"]) == 0
    assert [r["code"] for r in json.loads(capsys.readouterr().out)] == [r.code for r in catalogue()]


@pytest.mark.parametrize("command", ["diagnose", "report"])
def test_a_missing_run_is_a_message_and_exit_code_2(command, tmp_path, capsys):
    assert main([command, str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("lightning-plateau: expected a run's plateau folder")
    assert said.out == ""


def test_an_unknown_fault_of_the_demo_is_a_message_and_exit_code_2(capsys):
    assert main(["demo", "--fault", "no-such-fault"]) == 2
    assert "fault must be one of healthy" in capsys.readouterr().err


def test_the_faults_of_the_demo_are_listed(capsys):
    assert main(["demo", "--fault", "list"]) == 0
    assert "exploding-gradients" in capsys.readouterr().out


def test_wrong_usage_ends_with_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["diagnose"])
    assert ended.value.code == 2
    assert "usage: lightning-plateau diagnose" in capsys.readouterr().err


def test_help_has_examples_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert "examples:" in said
    assert "exit codes:" in said


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "lightning_plateau", "--version"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"lightning-plateau ")
