from __future__ import annotations

import io
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import OneCycleLR

from lightning_plateau.testing import history
from lightning_plateau.training.run import Snapshots
from lightning_plateau.training.snapshot import Snapshot
from tests.trainings import Guarding, Regressor, assert_equal, batches, fit, scaled, state_of

MAKERS = {
    "sgd": partial(SGD, lr=0.05, momentum=0.9),
    "adam": partial(Adam, lr=0.01),
    "adamw-fused": partial(AdamW, lr=0.01, fused=True),
}


class Scheduled(Regressor):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=40)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Taking(Guarding):
    """Takes a snapshot after step 4, and remembers what it should hold."""

    snapshot: Snapshot
    expected: dict[str, Tensor]

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        super().on_train_batch_end(trainer, *rest)
        if self.run.step == 4:
            self.snapshot = Snapshot.take(self.run)
            self.expected = everything(trainer)


def everything(trainer: Any) -> dict[str, Tensor]:
    tensors = state_of(trainer)
    for name, value in trainer.lr_scheduler_configs[0].scheduler.state_dict().items():
        if isinstance(value, int | float):
            tensors[f"scheduler/{name}"] = torch.tensor(value, dtype=torch.float64)
    for name in ("lr", "initial_lr", "max_lr"):
        rate = trainer.optimizers[0].param_groups[0][name]
        tensors[f"group/{name}"] = torch.tensor(rate, dtype=torch.float64)
    return tensors


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("settings", [{}, {"plugins": "scaler"}], ids=["plain", "scaled"])
def test_a_snapshot_is_restored_bit_for_bit_many_times(make: Any, settings: Any) -> None:
    if settings:
        settings = {"plugins": scaled()}
    taking = Taking()
    trainer = fit(Scheduled(make), batches(10), taking, **settings)
    parameters = list(trainer.lightning_module.parameters())
    for _ in range(2):
        taking.snapshot.restore(taking.run)
        assert_equal(everything(trainer), taking.expected)
        # The training goes on in its own tensors, and moves none of the snapshot's.
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        trainer.optimizers[0].step()
        assert not torch.equal(parameters[0], taking.snapshot.state["module"]["net.0.weight"])
    assert [a is b for a, b in zip(parameters, trainer.lightning_module.parameters(), strict=True)]
    assert trainer.global_step == 10


def test_without_the_schedule_learning_rates_stay() -> None:
    taking = Taking()
    trainer = fit(Scheduled(MAKERS["adam"]), batches(10), taking)
    now = everything(trainer)
    taking.snapshot.restore(taking.run, schedule=False)
    for name, tensor in everything(trainer).items():
        kept = name.startswith(("scheduler/", "group/"))
        assert torch.equal(tensor, (now if kept else taking.expected)[name])


def test_a_snapshot_passes_through_a_checkpoint() -> None:
    taking = Taking()
    trainer = fit(Scheduled(MAKERS["adam"]), batches(10), taking)
    file = io.BytesIO()
    torch.save(taking.snapshot.state_dict(), file)
    file.seek(0)
    loaded = Snapshot.from_state_dict(torch.load(file, weights_only=True))
    loaded.restore(taking.run)
    assert loaded.step == 4
    assert_equal(everything(trainer), taking.expected)


def test_state_that_did_not_exist_is_removed() -> None:
    taking = Guarding()
    module = Regressor(MAKERS["adam"])

    class First(Guarding):
        def on_train_batch_start(self, trainer: Any, *rest: Any) -> None:
            self.first = getattr(self, "first", None) or Snapshot.take(taking.run)

    first = First()
    trainer = fit(module, batches(3), taking, first)
    assert len(trainer.optimizers[0].state) > 0
    first.first.restore(taking.run)
    assert len(trainer.optimizers[0].state) == 0


def test_random_numbers_repeat_on_request_only() -> None:
    guarding = Guarding()
    fit(Regressor(), batches(2), guarding)

    def draw() -> tuple[float, float, float]:
        return torch.rand(()).item(), random.random(), float(np.random.rand())  # noqa: NPY002

    snapshot = Snapshot.take(guarding.run)
    drawn = draw()
    snapshot.restore(guarding.run)
    assert draw() != drawn
    snapshot.restore(guarding.run, rng=True)
    assert draw() == drawn


def test_the_keeper_holds_the_first_and_the_last_two_good_ones() -> None:
    guarding = Guarding()
    fit(Regressor(), batches(2), guarding)
    run, keeper = guarding.run, Snapshots(every_n_steps=10)
    for step in range(0, 50, 5):
        run.step = step
        if keeper.due(step):
            assert keeper.keep(run)
    assert keeper.initial is not None
    assert [keeper.initial.step, *(s.step for s in keeper.good)] == [0, 30, 40]
    assert keeper.latest().step == 40
    assert keeper.latest(before=40).step == 30
    assert keeper.latest(before=30).step == 0


def test_the_keeper_refuses_what_is_not_finite() -> None:
    guarding = Guarding()
    fit(Regressor(), batches(2), guarding)
    with torch.no_grad():
        next(guarding.run.module.parameters()).fill_(float("nan"))
    keeper = Snapshots()
    assert not keeper.keep(guarding.run)
    assert keeper.latest() is None


@pytest.mark.parametrize(
    ("losses", "broken"),
    [
        ([], False),
        ([2.0] * 50, False),
        ([2.0] * 40 + [4.0] * 10, False),
        ([2.0] * 40 + [2.0, float("nan")] * 4 + [2.0] * 2, False),
        ([2.0] * 40 + [float("nan")] * 6 + [2.0] * 4, True),
        ([2.0] * 40 + [1e6] * 10, True),
        ([float("nan")] * 3, True),
        ([-2.0] * 40 + [-1.0] * 10, False),
        ([-2.0] * 40 + [50.0] * 10, True),
    ],
)
def test_a_run_is_broken_when_what_it_learned_is_destroyed(losses: Any, broken: bool) -> None:
    guarding = Guarding()
    fit(Regressor(), batches(1), guarding)
    guarding.run.refresh(history(loss=losses))
    assert guarding.run.broken is broken
