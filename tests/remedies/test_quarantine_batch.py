"""Batches that broke a step stay out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lightning_plateau import PlateauCallback
from lightning_plateau.core.signal import SKIPPED_STEPS
from lightning_plateau.framework import Trainer
from lightning_plateau.remedies.quarantine_batch import QuarantineBatch
from lightning_plateau.testing import history
from lightning_plateau.training.quarantine import Quarantine, place_of
from tests.digits import Digits, digits, trainer
from tests.remedies.test_contract import trained
from tests.trainings import Guarding, ManualRegressor, Regressor, batches, fit, scaled

BAD = 7
LEFT_OUT = "batch 7 of every epoch"


def data(*, damaged: bool) -> DataLoader:
    images, labels = digits()
    images = images[:640].clone()
    if damaged:
        images[BAD * 32, 0, 3, 3] = float("nan")
    return DataLoader(TensorDataset(images, labels[:640]), 32)


class Watching(PlateauCallback):
    """Notes which steps changed the weights."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self.moved: list[bool] = []

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.before = arguments[1].net[6].weight.detach().clone()
        super().on_train_batch_start(*arguments)

    def on_train_batch_end(self, *arguments: Any) -> None:
        super().on_train_batch_end(*arguments)
        self.moved.append(not torch.equal(self.before, arguments[1].net[6].weight))


def watching(folder: Path) -> Watching:
    return Watching(dirpath=str(folder), quiet=True, every_n_steps=10)


@pytest.fixture
def interrupted(tmp_path: Path) -> tuple[Watching, Trainer]:
    own = watching(tmp_path)
    run = trainer(own, max_epochs=4)
    run.fit(Digits(), data(damaged=True))
    run.save_checkpoint(tmp_path / "own.ckpt")
    return own, run


def test_a_damaged_batch_is_named_and_left_out(interrupted: tuple[Watching, Trainer]) -> None:
    own, _ = interrupted
    [made] = [m for m in own.journal.interventions if m.remedy == "quarantine-batch"]
    assert (made.code, made.before, made.after) == (
        "LP102",
        {"quarantine": "none"},
        {"quarantine": LEFT_OUT},
    )
    assert [step for step, moved in enumerate(own.moved) if not moved] == [7, 27, 47, 67]


def test_a_resumed_run_leaves_it_out_whatever_it_holds(
    interrupted: tuple[Watching, Trainer], tmp_path: Path
) -> None:
    own = watching(tmp_path)
    run = trainer(own, max_epochs=6)
    run.fit(Digits(), data(damaged=False), ckpt_path=tmp_path / "own.ckpt")
    assert [step for step, moved in enumerate(own.moved) if not moved] == [7, 27]


def test_where_the_order_changes_only_that_epoch_is_meant() -> None:
    run = trained()
    assert QuarantineBatch().apply(run).after == {"quarantine": "batch 4 of epoch 0"}
    run.detach("quarantine")
    profile = run.history.profile
    run.history = history({SKIPPED_STEPS: [0.0, 1.0]}, loss=[1.0] * 10, profile=profile)
    object.__setattr__(run.history.profile, "shuffled", False)
    assert QuarantineBatch().apply(run).after == {"quarantine": "batch 1 of every epoch"}
    assert "already" in str(QuarantineBatch().obstacle(run))


def test_batches_that_are_drawn_anew_in_each_epoch_are_refused() -> None:
    run = trained()
    assert QuarantineBatch().obstacle(run) is None
    object.__setattr__(run.history.profile, "shuffled", True)
    assert "anew in each epoch" in str(QuarantineBatch().obstacle(run))
    object.__setattr__(run.history.profile, "world_size", 2)
    assert QuarantineBatch().obstacle(run) is None


def at(epoch: int, index: int, window: int = 1, total: int = 10) -> Any:
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_idx=index))
    return SimpleNamespace(
        fit_loop=loop,
        current_epoch=epoch,
        accumulate_grad_batches=window,
        num_training_batches=total,
    )


@pytest.mark.parametrize(
    ("window", "step", "place"), [(1, 13, (1, 3)), (4, 1, (0, 7)), (4, 2, (0, 9)), (4, 3, (1, 3))]
)
def test_places_under_accumulation(window: int, step: int, place: tuple[int, int]) -> None:
    assert place_of(at(0, 0, window), step, shuffled=True) == place
    assert place_of(at(0, 0, window), step, shuffled=False) == (-1, place[1])


def test_the_whole_window_of_a_batch_is_left_out() -> None:
    held = [(0, 2), (-1, 9)]
    norms = torch.ones(3)
    out = [
        bool(Quarantine(at(epoch, index, 4), held).judged(norms).isnan().all())
        for epoch, index in ((0, 3), (0, 7), (1, 3), (0, 9), (1, 9))
    ]
    assert out == [True, False, False, True, True]


def test_refusals() -> None:
    def reason(module: Any, **settings: Any) -> str:
        guarding = Guarding()
        fit(module(partial(SGD, lr=0.01)), batches(4), guarding, **settings)
        guarding.run.refresh(history({SKIPPED_STEPS: [0.0, 1.0, 0.0, 0.0]}, loss=[1.0] * 4))
        return str(QuarantineBatch().obstacle(guarding.run))

    assert reason(Regressor) == "None"
    assert reason(ManualRegressor) == "None"
    assert "scaler" in reason(Regressor, plugins=scaled())
