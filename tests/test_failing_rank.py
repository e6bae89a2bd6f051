"""Watching fails on one rank: the training goes on as unwatched, and no rank waits for another."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_plateau import PlateauCallback
from tests.modes.capabilities import assert_as_unwatched, here, train, unwatched
from tests.modes.mode import MODES, Mode
from tests.modes.test_modes import missing
from tests.ranks import on_ranks

ROWS = {mode.name: mode for mode in MODES}
REPLICAS = ROWS["DDP, two ranks"]
SHARDS = ROWS["ModelParallelStrategy with fully_shard, two ranks"]
PARALLEL = ROWS["ModelParallelStrategy with parallelize_module, two ranks"]
KINDS = [
    pytest.param(mode, id=mode.name, marks=missing(mode)) for mode in (REPLICAS, SHARDS, PARALLEL)
]
FAILURE = "only here"


class Failing(PlateauCallback):
    """Watching fails in one of its hooks, on one rank, after some steps."""

    def __init__(self, folder: Path, hook: str, rank: int, step: int, policy: Any) -> None:
        super().__init__(policy=policy, every_n_steps=5, dirpath=str(folder), quiet=True, log=False)
        self.hook, self.rank, self.step = hook, rank, step

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        assert self._watch is not None
        recorder = self._watch.recorder
        if trainer.global_rank == self.rank:
            setattr(
                recorder, self.hook, partial(self._fail, recorder, getattr(recorder, self.hook))
            )

    def _fail(self, recorder: Any, act: Any, *arguments: Any, **settings: Any) -> Any:
        if recorder.clock == self.step:
            raise OSError(FAILURE)
        return act(*arguments, **settings)


def ends(mode: Mode, folder: Path, policy: str, hook: str, step: int, poisoned: bool) -> Any:
    """Train on this rank; return what was said of the failure, and the weights."""
    own = Failing(folder, hook, 1, step, policy)
    if not poisoned:
        unwatched(mode, folder)
    fit = train(mode, folder, own, poisoned=poisoned)
    assert own.disabled
    if not poisoned:
        assert_as_unwatched(mode, folder, fit)
    told = [one.message for one in own.findings if FAILURE in one.message]
    return told, [here(p.detach()).numpy() for p in fit.lightning_module.parameters()]


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("hook", "step"),
    [("record_batch", 0), *(("end_tape", step) for step in (0, 2, 4, 7, 11)), ("drain", 5)],
)
@pytest.mark.parametrize("mode", KINDS)
def test_the_training_goes_on(mode: Mode, hook: str, step: int, tmp_path: Path) -> None:
    work = partial(ends, mode, tmp_path, "observe", hook, step, False)
    for told, _ in on_ranks(work, mode.ranks):
        assert len(told) == 1
        assert told[0].count("watching failed at") == 1


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", KINDS[:2])
def test_a_step_is_skipped_on_all_ranks_until_all_know(mode: Mode, tmp_path: Path) -> None:
    """The fourth batch is NaN; watching has failed on one rank at the first."""
    once = replace(mode, settings=lambda: {**mode.settings(), "max_epochs": 1})
    work = partial(ends, once, tmp_path, "safe", "end_tape", 0, True)
    (_, first), (_, second) = on_ranks(work, mode.ranks)
    assert all(np.isfinite(weight).all() for weight in (*first, *second))
    if mode is REPLICAS:
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


class Unprepared(PlateauCallback):
    """Watching cannot even begin on one rank."""

    def _folder(self, trainer: Any) -> Path | None:
        folder = super()._folder(trainer)
        if trainer.global_rank == 1:
            raise OSError(FAILURE)
        return folder


def said_of_the_start(folder: Path) -> list[str]:
    own = Unprepared(policy="safe", dirpath=str(folder), quiet=True, log=False)
    train(REPLICAS, folder, own)
    return [one.message for one in own.findings]


@pytest.mark.distributed
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_why_watching_did_not_begin_is_told_on_each_rank(tmp_path: Path) -> None:
    for told in on_ranks(partial(said_of_the_start, tmp_path)):
        [message] = told
        assert FAILURE in message
