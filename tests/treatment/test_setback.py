"""A loss that rises because of what is trained on is no reason to go back."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import SGD

from lightning_plateau import PlateauCallback
from lightning_plateau.core.journal import Note
from lightning_plateau.remedies.roll_back import RollBack
from lightning_plateau.testing import history
from lightning_plateau.training.run import Run
from lightning_plateau.treatment.setback import Setback, setback, since_well
from lightning_plateau.treatment.snapshot_pace import snapshot_every
from tests.faults import observation
from tests.faults.program import programs
from tests.remedies.test_contract import all_of
from tests.trainings import Guarding, Regressor, batches, fit

ROSE = [1.0] * 20 + [3.0] * 20
ROSE_LATER = [1.0] * 26 + [3.0] * 14


def run_of(losses: Any, module: Any = Regressor, lr: float = 0.05) -> Run:
    """Return a run with a snapshot of step 20, that makes its steps at ``lr`` from then on."""
    guarding = Guarding()
    fit(module(partial(SGD, lr=0.05)), batches(20), guarding)
    run = guarding.run
    run.snapshots.keep(run)
    points, targets = next(iter(batches(1)))
    optimizer = SGD(run.module.parameters(), lr=lr)
    for _ in range(5):
        optimizer.zero_grad()
        mse_loss(run.module.net(points), targets).backward()
        optimizer.step()
    run.batch, run.step = (points, targets), 40
    run.refresh(history(loss=losses))
    return run


def test_weights_that_have_become_worse_are_to_blame() -> None:
    run = run_of(ROSE, lr=0.6)
    found = setback(run, run.snapshots.latest())
    assert found is not None
    assert found.now > found.earlier
    assert not found.elsewhere


def test_weights_that_are_better_than_ever_are_not() -> None:
    run = run_of(ROSE, lr=0.01)
    found = setback(run, run.snapshots.latest())
    assert found is not None
    assert found.elsewhere
    assert "with the weights of step 20" in str(found)


@pytest.mark.parametrize(
    ("now", "earlier", "elsewhere"),
    [
        (1.7, 6.7, True),
        (1.7, 0.3, False),
        (0.2, 0.02, False),
        (0.2, 0.15, True),
        (-1.0, -1.2, True),
    ],
)
def test_an_easy_batch_tells_by_its_own_loss(now: float, earlier: float, elsewhere: bool) -> None:
    assert Setback(100, rise=1.5, now=now, earlier=earlier).elsewhere is elsewhere


def test_a_state_taken_at_the_brink_is_given_up_for_the_one_before() -> None:
    run = run_of(ROSE_LATER, lr=0.6)
    well = run.snapshots.latest()
    run.step = 25
    run.snapshots.keep(run)
    run.step = 40
    found = since_well(run)
    assert found is not None
    assert (found.step, found.elsewhere) == (20, False)
    assert run.snapshots.latest(before=40) is well


def test_all_states_are_kept_where_the_weights_are_not_to_blame() -> None:
    run = run_of(ROSE_LATER, lr=0.01)
    run.step = 25
    run.snapshots.keep(run)
    run.step = 40
    found = since_well(run)
    assert found is not None
    assert (found.step, found.elsewhere) == (25, True)
    assert [state.step for state in run.snapshots.before(40)] == [25, 20]


def test_the_run_is_left_as_it_was() -> None:
    run = run_of(ROSE)
    before, batch = all_of(run), copy.deepcopy(run.batch)
    assert setback(run, run.snapshots.latest()) is not None
    assert all_of(run) == before
    assert all(torch.equal(a, b) for a, b in zip(run.batch, batch, strict=True))


class Compiled(Regressor):
    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.net = torch.compile(self.net, backend="eager")


def test_a_compiled_part_is_no_hindrance() -> None:
    run = run_of(ROSE, Compiled)
    assert setback(run, run.snapshots.latest()) is not None


@pytest.mark.parametrize("losses", [ROSE[::-1], [1.0] * 40, [1.0] * 20 + [float("nan")] * 20, []])
def test_without_a_rise_nothing_is_asked(losses: list[float]) -> None:
    run = run_of(losses)
    assert setback(run, run.snapshots.latest()) is None
    assert setback(run, None) is None


def test_a_step_that_fails_on_a_copy_tells_nothing() -> None:
    run = run_of(ROSE)
    run.batch = "no batch"
    assert setback(run, run.snapshots.latest()) is None


def test_a_state_whose_loss_was_no_lower_is_not_gone_back_to() -> None:
    run = run_of(ROSE[::-1])
    assert "no lower at step 20" in str(RollBack().obstacle(run))
    run.refresh(history(loss=ROSE))
    assert RollBack().obstacle(run) is None


def test_large_networks_are_copied_rarely() -> None:
    large = nn.Linear(4000, 4000, device="meta")
    assert snapshot_every(large, 800) == snapshot_every(nn.Linear(3, 3), None) == 500


@pytest.mark.slow
def test_a_second_task_is_left_to_learn(tmp_path: Path) -> None:
    ended = []
    for policy in ("auto", "observe"):
        torch.manual_seed(2)
        training = next(one for one in programs() if one.name == "a-second-task-half-way").build()
        own = PlateauCallback(policy=policy, dirpath=str(tmp_path), quiet=True)
        observation.fit(training, [own])
        ended.append(training.module.state_dict())
        assert not own.journal.interventions
        told = [e.record.text for e in own.journal if isinstance(e.record, Note)]
        changed = any("what is trained on has changed" in text for text in told)
        assert changed is (policy == "auto")
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in ended), strict=True))


def test_what_is_frozen_is_part_of_the_task() -> None:
    run = run_of(ROSE, lr=0.6)
    blamed = setback(run, run.snapshots.latest())
    for parameter in run.module.parameters():
        parameter.requires_grad_(False)
    task = setback(run, run.snapshots.latest())
    assert blamed is not None
    assert task is not None
    assert task.earlier == task.now
    assert task.elsewhere
    assert not blamed.elsewhere
