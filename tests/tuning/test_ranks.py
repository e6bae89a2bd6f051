"""Trials that are themselves trained on two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from lightning_plateau.tuning import ranks, tune
from lightning_plateau.tuning.fault import ENDED
from tests.digits import Digits, loader

ROOT = Path(__file__).parents[2]
TOGETHER = {"max_epochs": 4, "accelerator": "cpu", "devices": 2}
SCRIPT = """
import json, os, sys
from lightning_plateau.tuning import tune
from tests.digits import Digits, loader

found = tune(
    Digits, loader(640, 16), loader(128, shuffle=False, first=1500),
    space={"learning_rate": [1e-2, 1e-7, 2e-2]}, sampler="grid", n_trials=3,
    trainer={"max_epochs": 4, "accelerator": "cpu", "devices": 2, "strategy": "ddp"},
    folder=sys.argv[1], progress_bar=False,
)
with open(f"{sys.argv[1]}/{os.environ['LOCAL_RANK']}.json", "w") as file:
    json.dump([found.best.params, len(found.study.trials)], file)
"""


def test_one_process_agrees_with_itself() -> None:
    assert ranks.agreed({"values": {"lr": 0.1}}) == {"values": {"lr": 0.1}}
    assert ranks.FIRST in os.environ
    ranks.forget()
    assert ranks.FIRST not in os.environ


def test_a_process_that_lightning_starts_finds_the_first_trial(monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(ranks.FIRST, '{"values": {"lr": 0.1}}')
    assert ranks.agreed(None) == {"values": {"lr": 0.1}}


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("storage", ["study.journal", None])
def test_one_process_chooses_and_two_train(storage: str | None, tmp_path: Path) -> None:
    found = tune(
        Digits,
        loader(640, 16),
        loader(128, shuffle=False, first=1500),
        space={"learning_rate": [1e-2, 1e-7, 2e-2]},
        sampler="grid",
        n_trials=3,
        trainer={**TOGETHER, "strategy": "ddp_fork"},
        storage=None if storage is None else tmp_path / storage,
        folder=tmp_path,
        progress_bar=False,
    )
    judge(found.study.trials)
    assert found.best.params["learning_rate"] > 1e-7


def judge(trials) -> None:
    dead = [one for one in trials if one.state is TrialState.PRUNED]
    assert [one.params["learning_rate"] for one in dead] == [1e-7]
    assert dead[0].user_attrs[ENDED] in {"LP407", "LP401"}
    assert dead[0].user_attrs["steps"] < 80
    well = [one for one in trials if one.state is TrialState.COMPLETE]
    assert len(well) == 2
    assert all(len(one.intermediate_values) == 4 for one in well)


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize(
    "by",
    [
        [],  # Lightning runs the script once more for the other rank
        ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29533"],
    ],
    ids=["script", "torchrun"],
)
def test_rank_zero_chooses_for_all(by: list[str], tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, *by, str(script), str(tmp_path)]
    kept = {name: one for name, one in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    done = subprocess.run(
        command,
        env={**kept, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        timeout=400,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = [(tmp_path / f"{rank}.json").read_text("utf-8") for rank in (0, 1)]
    assert said[0] == said[1]
