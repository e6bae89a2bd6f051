from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from lightning_plateau.cli import main, parser
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


# -- JSON, remedies, several runs, runs of others -------------------------------------------------


def test_every_command_that_answers_can_answer_in_strict_json(run_of, tmp_path, capsys):
    run = run_of(FLAT)
    for command in (
        ["rules"],
        ["remedies"],
        ["explain", "LP401"],
        ["explain", "clip-gradients"],
        ["diagnose", run],
        ["report", run],
        ["report", run, run],
    ):
        main([*command, "--json"])
        assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def test_report_as_json_has_the_verdict(run_of, capsys):
    assert main(["report", run_of(FLAT), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["health"] == "sick"
    assert said["advice"][0]["code"] == "LP401"


def test_remedies_are_listed_and_explained(capsys):
    assert main(["remedies"]) == 0
    assert capsys.readouterr().out.startswith("safe    ")
    assert main(["explain", "clip-gradients"]) == 0
    assert "answers  LP301" in capsys.readouterr().out


def test_several_runs_are_compared(tmp_path, capsys):
    for name, made in (("flat", FLAT), ("falling", FALLING)):
        (tmp_path / name).mkdir()
        made.save(tmp_path / name / "history.npz")
    runs = [str(tmp_path / "flat"), str(tmp_path / "falling")]
    assert main(["report", *runs]) == 0
    said = capsys.readouterr().out
    assert "≠ verdict" in said
    assert "2. falling" in said
    assert main(["report", *runs, "--html", str(tmp_path / "compared.html")]) == 0
    assert "2 runs" in (tmp_path / "compared.html").read_text("utf-8")
    assert main(["report", *runs, "--plot"]) == 2
    assert "name one, or leave them out" in capsys.readouterr().err


def test_a_run_that_never_had_the_plugin_is_diagnosed_from_its_csv(tmp_path, capsys):
    path = tmp_path / "metrics.csv"
    rows = [f"{10 * row},{2.303 + 0.01 * np.sin(row)}" for row in range(100)]
    path.write_text("\n".join(["step,train_loss", *rows]))
    assert main(["diagnose", str(path)]) == 1
    said = capsys.readouterr().out
    assert "LP401 flat-loss" in said
    assert "read      training loss from train_loss (100 rows); no other signal was logged" in said
    assert "next      curves show that something is wrong, seldom why" in said
    assert main(["report", str(tmp_path), "--html"]) == 0
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", ["history.npz", "journal.jsonl", "metrics.csv"])
@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "json"])
def test_damaged_files_are_a_message_and_exit_code_2(name, damage, tmp_path, capsys):
    FLAT.save(tmp_path / "history.npz")
    written = Journal(tmp_path / "journal.jsonl")
    for record in (TOO_HIGH, DECAY, KEPT):
        written.append(record)
    written.close()
    path = tmp_path / name
    if name == "metrics.csv":
        (tmp_path / "history.npz").unlink()
        path.write_text("step,loss\n" + "0,1.0\n" * 50)
    whole = path.read_bytes()
    noise = bytes(np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8))
    path.write_bytes(
        {"empty": b"", "noise": noise, "cut": whole[: len(whole) // 2], "json": b'{"a": 1}\n'}[
            damage
        ]
    )
    for command in ("diagnose", "report"):
        code = main([command, str(tmp_path)])
        said = capsys.readouterr()
        # A journal or table that was cut off, or is empty, is one of a run that crashed.
        crashed = name != "history.npz" and damage in {"empty", "cut"}
        assert code == 2 or crashed, said.out
        if code == 2:
            assert said.err.startswith("lightning-plateau: ")
            assert str(tmp_path) in said.err


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_can_complete(shell, capsys):
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert "lightning-plateau" in said
    assert "flat-loss" in said


def test_without_shtab_the_error_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "lightning-plateau[completion]" in capsys.readouterr().err


def test_the_help_of_each_command_has_examples(capsys):
    (commands,) = parser()._subparsers._group_actions
    for command in commands.choices:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        said = capsys.readouterr().out
        assert f"examples:\n  lightning-plateau {command}" in said, command
        for line in said.partition("examples:\n")[2].replace("\\\n", "").splitlines():
            example = re.match(r" *lightning-plateau ([^|>&]+?)(  |$|[|>&])", line)
            if example:
                parser().parse_args(shlex.split(example[1]))


def test_the_demo_answers_in_json_and_in_nothing_else(tmp_path, capsys):
    assert main(["demo", "--fault", "list", "--json"]) == 0
    assert "exploding-gradients" in json.loads(capsys.readouterr().out)
    arguments = ["--fault", "softmax-before-cross-entropy", "--epochs", "1"]
    assert main(["demo", *arguments, "--out", str(tmp_path / "demo"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["report"]["findings"][0]["code"] == "LP701"
    assert set(said["accuracy"]) == {"untreated", "treated"}
