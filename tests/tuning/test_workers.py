"""Several processes on one study: some are killed, and every trial is accounted for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from lightning_plateau.tuning.heartbeat import LivingJournal
from lightning_plateau.tuning.storage import open_storage
from lightning_plateau.tuning.worker import ERROR, SURPLUS, counted

ROOT = Path(__file__).parents[2]
WORKER = """
import sys, time
from optuna.distributions import FloatDistribution
from lightning_plateau.tuning import tune

def objective(trial, values):
    time.sleep(0.4)
    return (values["x"] - 0.3) ** 2

found = tune(
    objective=objective, space={"x": FloatDistribution(0.0, 1.0)}, sampler=sys.argv[2],
    n_trials=int(sys.argv[3]), storage=sys.argv[1], folder=sys.argv[1] + ".folder", beat_s=1,
    progress_bar=False,
)
print(found.best.value)
"""


def start(storage: Path | str, sampler: str = "random", n_trials: int = 24) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(storage), sampler, str(n_trials)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )


def trials_of(storage: Path) -> list[optuna.trial.FrozenTrial]:
    opened = open_storage(storage, storage.parent)
    return optuna.load_study(study_name="tune", storage=opened).get_trials(deepcopy=False)


def wait_until(storage: Path, many: int, limit_s: float = 120.0) -> None:
    """Wait until so many trials have begun."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if storage.exists() and len(_begun(storage)) >= many:
            return
        time.sleep(0.1)
    raise AssertionError(f"fewer than {many} trials have begun in {limit_s} s")


def _begun(storage: Path) -> list[optuna.trial.FrozenTrial]:
    try:
        return trials_of(storage)
    except KeyError:  # the study has not been made yet
        return []


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_one_of_four_is_killed_and_every_trial_is_made(sampler: str, tmp_path: Path) -> None:
    storage = tmp_path / "study.journal"
    workers = [start(storage, sampler) for _ in range(4)]
    wait_until(storage, 8)
    workers[0].send_signal(signal.SIGKILL)
    assert [worker.wait(timeout=240) for worker in workers[1:]] == [0, 0, 0]
    workers[0].wait()
    trials = trials_of(storage)
    ended = [one for one in trials if one.state is TrialState.COMPLETE]
    lost = [one for one in trials if one.state is TrialState.FAIL]
    assert all(one.state.is_finished() for one in trials)
    assert len(ended) == 24
    assert len(lost) <= 1
    values = {one.params["x"] for one in ended}
    assert {one.params["x"] for one in lost if "x" in one.params} <= values
    assert len(values) >= 24


@pytest.mark.distributed
@pytest.mark.slow
def test_all_are_killed_and_the_study_goes_on(tmp_path: Path) -> None:
    storage = tmp_path / "study.journal"
    workers = [start(storage, n_trials=12) for _ in range(2)]
    wait_until(storage, 5)
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    before = len([one for one in trials_of(storage) if one.state is TrialState.COMPLETE])
    assert before < 12
    assert start(storage, n_trials=12).wait(timeout=240) == 0
    trials = trials_of(storage)
    assert len([one for one in trials if one.state is TrialState.COMPLETE]) == 12
    assert all(one.state.is_finished() for one in trials)


def test_a_trial_without_a_sign_of_life_is_lost_and_tried_again(tmp_path: Path) -> None:
    def again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        study.enqueue_trial(trial.params)

    storage = LivingJournal(tmp_path / "a.journal", beat_s=1, grace_s=3, stale=again)
    study = optuna.create_study(study_name="tune", storage=storage)
    alive, dead = study.ask(), study.ask()
    for trial in (alive, dead):
        trial.suggest_float("x", 0.0, 1.0)
        storage.record_heartbeat(trial._trial_id)
    beat = tmp_path / "a.journal.beats" / str(dead._trial_id)
    os.utime(beat, (time.time() - 10, time.time() - 10))
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        optuna.storages.fail_stale_trials(study)
    states = [one.state for one in study.trials]
    assert states == [TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING]
    assert study.trials[2].system_attrs["fixed_params"] == dead.params


def test_a_trial_that_died_before_its_first_beat_is_lost_too(tmp_path: Path) -> None:
    storage = LivingJournal(tmp_path / "a.journal", beat_s=1, grace_s=0, stale=lambda *_: None)
    study = optuna.create_study(storage=storage)
    study.ask()
    time.sleep(0.01)
    assert len(storage._get_stale_trial_ids(study._study_id)) == 1


@pytest.mark.parametrize("kind", ["journal", "database", "default"])
def test_a_storage_by_path_and_by_url(kind: str, tmp_path: Path) -> None:
    given = {
        "journal": str(tmp_path / "shared" / "study.journal"),
        "database": f"sqlite:///{tmp_path / 'other.db'}",
        "default": None,
    }[kind]
    storage = open_storage(given, tmp_path)
    assert storage.get_heartbeat_interval() == 10
    assert storage.get_heartbeat_stale_trial_callback() is not None
    optuna.create_study(storage=storage)
    expected = {"journal": "shared", "database": "other.db", "default": "study.db"}[kind]
    assert (tmp_path / expected).exists()


def test_a_trial_counts_unless_its_worker_died() -> None:
    lost, failed = (
        create_trial(state=TrialState.FAIL, user_attrs=attributes)
        for attributes in ({}, {ERROR: "RuntimeError: no"})
    )
    surplus = create_trial(state=TrialState.PRUNED, user_attrs={SURPLUS: True})
    assert counted([lost, failed, surplus]) == [failed]
