"""What holds for every remedy when the training is resumed, with the library and without."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.optim import Adam

from lightning_plateau.core.remedy import Remedy
from lightning_plateau.remedies import catalogue
from lightning_plateau.training.run import Run
from lightning_plateau.treatment.in_force import InForce
from tests.remedies.test_contract import Keeping, Sick, trained
from tests.trainings import batches, fit, quiet

EVERY = [pytest.param(remedy(), id=remedy.name) for remedy in catalogue()]
WITH_THE_LIBRARY = [p for p in EVERY if p.values[0].replaces_optimizer]
WITHOUT = [p for p in EVERY if p not in WITH_THE_LIBRARY]


def treated(remedy: Remedy, path: Path) -> tuple[Run, InForce]:
    """Return a run that the remedy was applied to and kept, and write its checkpoint."""
    run, kept = trained(), InForce()
    run.trainer.should_stop = False
    run.module.net[1].running_var[0] = 1.0
    if remedy.obstacle(run) is not None:
        run.module.net[1].running_var[0] = float("inf")
    kept.add(remedy, remedy.apply(run))
    run.trainer.save_checkpoint(path)
    return run, kept


def resumed(path: Path, *own: Any) -> Trainer:
    """Go on for two epochs, with as little as the checkpoint asks for."""
    trainer = Trainer(**quiet(own, max_epochs=3))
    trainer.fit(Sick(partial(Adam, lr=0.01)), batches(10), ckpt_path=path)
    return trainer


@pytest.mark.parametrize("remedy", WITHOUT)
def test_a_resumed_run_trains_without_the_library(remedy: Remedy, tmp_path: Path) -> None:
    treated(remedy, tmp_path / "own.ckpt")
    trainer = resumed(tmp_path / "own.ckpt")
    assert trainer.global_step == 30
    assert all(torch.isfinite(p).all() for p in trainer.lightning_module.parameters())


@pytest.mark.parametrize("remedy", EVERY)
def test_weights_load_without_the_library(remedy: Remedy, tmp_path: Path) -> None:
    treated(remedy, tmp_path / "own.ckpt")
    held = torch.load(tmp_path / "own.ckpt", weights_only=True)
    Sick(partial(Adam, lr=0.01)).load_state_dict(held["state_dict"], strict=True)


@pytest.mark.parametrize("remedy", WITH_THE_LIBRARY)
def test_what_needs_the_library_says_so(remedy: Remedy) -> None:
    assert "without it" in (type(remedy).__doc__ or "")


@pytest.mark.parametrize("remedy", EVERY)
def test_what_a_checkpoint_does_not_carry_is_put_in_force_again(
    remedy: Remedy, tmp_path: Path
) -> None:
    run, kept = treated(remedy, tmp_path / "own.ckpt")
    attached, file = sorted(run.attachments), io.BytesIO()
    torch.save(kept.state_dict(), file)
    file.seek(0)
    again = InForce()
    again.load_state_dict(torch.load(file, weights_only=True))
    keeping = Keeping()
    fit(Sick(partial(Adam, lr=0.01)), batches(10), keeping)
    for optimizers in (True, False):
        again.resume(keeping.run, optimizers=optimizers)
    assert sorted(keeping.run.attachments) == (attached if remedy.lasting else [])
    kinds = [type(adapter.optimizer) for adapter in keeping.run.adapters]
    assert kinds == [type(adapter.optimizer) for adapter in run.adapters]
