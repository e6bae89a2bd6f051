"""What holds for every remedy."""

from __future__ import annotations

import copy
import io
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from lightning_plateau.core.remedy import Remedy, Safety
from lightning_plateau.core.signal import GRADIENT_NORM, SKIPPED_STEPS, VALIDATION_LOSS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.remedies import by_name, catalogue
from lightning_plateau.testing import history
from lightning_plateau.training.run import Run
from tests.trainings import Guarding, Regressor, batches, fit, scaled, state_of

SECTIONS = (
    "What it changes:", "When it helps:", "Safety:", "How to undo:", "Example:", "References:",
)  # fmt: skip
EVERY = [
    pytest.param(remedy(**level), id=f"{remedy.name}-{index}")
    for remedy in catalogue()
    for index, level in enumerate(remedy.levels)
]


class Scheduled(Regressor):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": CosineAnnealingLR(optimizer, 30), "interval": "step"}]


class Sick(Scheduled):
    """All that remedies of structure ask for: a convolution, and batch norm in need of help."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.conv = nn.Conv2d(1, 1, 1)
        self.net[1].momentum = 1.0


class Keeping(Guarding):
    def on_train_batch_end(self, *arguments: Any) -> None:
        super().on_train_batch_end(*arguments)
        if self.run.step in (2, 5):
            self.run.snapshots.keep(self.run)


def forward_pass(*, convolved: bool = False) -> Tape:
    """Return the tape of a Regressor, or of one that adds what a convolution makes of its input."""

    def own(name: str, *shape: int) -> Operand:
        return Operand("parameter", name=name, shape=shape)

    def made(index: int) -> tuple[Operand, ...]:
        return (Operand("operation", index),)

    operations: tuple[Operation, ...] = (
        Operation(
            0,
            "linear",
            "net.0",
            (Operand("batch", 0, "0", (4, 3)), own("net.0.weight", 8, 3), own("net.0.bias", 8)),
        ),
        Operation(1, "batch_norm", "net.1", made(0)),
        Operation(2, "relu", "net.2", made(1)),
        Operation(
            3, "linear", "net.3", (*made(2), own("net.3.weight", 1, 8), own("net.3.bias", 1))
        ),
    )
    convolution = (
        Operation(
            4, "conv2d", "conv", (Operand("batch", 0, "0", (4, 3)), own("conv.weight", 1, 1, 1, 1))
        ),
        Operation(5, "add", "", (*made(3), *made(4))),
    )
    operations = operations + convolution if convolved else operations
    last = len(operations)
    target = Operand("batch", 1, "1", (4, 1))
    loss = Operation(last, "mse_loss", "", (*made(last - 1), target))
    return Tape(0, (*operations, loss), root=last)


def trained(**settings: Any) -> Run:
    """Return a run that has learned nothing, all that remedies ask for known of it."""
    keeping = Keeping()
    fit(Sick(partial(Adam, lr=0.01)), batches(10), keeping, **settings)
    keeping.run.module.net[1].running_var[0] = float("inf")
    norms = {GRADIENT_NORM: np.linspace(1.0, 2.0, 40)}
    norms[VALIDATION_LOSS] = np.linspace(1.0, 2.0, 4)
    norms[SKIPPED_STEPS] = np.eye(1, 10, 4)[0]
    keeping.run.refresh(history(norms, loss=[1.0] * 40, tapes=[forward_pass(convolved=True)]))
    keeping.run.allow_user_overrides = True
    keeping.run.batch = [100.0 * tensor for tensor in next(iter(batches(1)))]
    return keeping.run


def all_of(run: Run) -> dict[str, Any]:
    """Return all that a remedy may change, comparable."""
    trainer = run.trainer
    return copy.deepcopy(
        {
            "tensors": {name: t.tolist() for name, t in state_of(trainer).items()},
            "modules": repr(run.module),
            "momentum": run.module.net[1].momentum,
            "hooks": [len(m._forward_pre_hooks) for m in run.module.modules()],
            "attached": sorted(run.attachments),
            "groups": trainer.optimizers[0].state_dict()["param_groups"],
            "schedulers": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
            "scaler": None if run.scaler is None else run.scaler.state_dict(),
            "guard": run.guard.state_dict(),
            "stopping": (trainer.should_stop, run.stop_reason),
            "clip": trainer.gradient_clip_val,
            "length": (trainer.max_epochs, trainer.max_steps),
            "callbacks": [type(callback).__name__ for callback in trainer.callbacks],
            "random": torch.get_rng_state().tolist(),
        }
    )


@pytest.mark.parametrize("remedy", EVERY)
@pytest.mark.parametrize("settings", [{}, {"plugins": "scaler"}], ids=["plain", "scaled"])
def test_reverting_leaves_no_trace(remedy: Remedy, settings: Any) -> None:
    run = trained(**({"plugins": scaled()} if settings else {}))
    run.trainer.should_stop = False
    before = all_of(run)
    obstacle = remedy.obstacle(run)
    if settings and obstacle is not None:
        assert "scaler" in obstacle
        return
    assert obstacle is None
    change = remedy.apply(run)
    changed = all_of(run)
    assert changed != before
    remedy.revert(run, change)
    assert all_of(run) == before
    again = remedy.apply(run)
    assert all_of(run) == changed
    assert again.after == change.after


@pytest.mark.parametrize("remedy", EVERY)
def test_a_change_passes_through_a_checkpoint(remedy: Remedy) -> None:
    run = trained()
    run.trainer.should_stop = False
    before = all_of(run)
    change = remedy.apply(run)
    file = io.BytesIO()
    torch.save(dict(change.undo), file)
    file.seek(0)
    undo = torch.load(file, weights_only=True)
    remedy.revert(run, type(change)(change.before, change.after, undo))
    assert all_of(run) == before


@pytest.mark.parametrize("remedy", EVERY)
def test_a_change_is_told_in_plain_words(remedy: Remedy) -> None:
    run = trained()
    run.trainer.should_stop = False
    change = remedy.apply(run)
    assert change.before.keys() == change.after.keys()
    assert change.before != change.after
    values = [*change.before.values(), *change.after.values()]
    assert all(value is None or isinstance(value, bool | int | float | str) for value in values)


@pytest.mark.parametrize("remedy", catalogue(), ids=lambda remedy: remedy.name)
def test_the_docstring_is_a_page(remedy: type[Remedy]) -> None:
    text = remedy.__doc__ or ""
    places = [text.find(section) for section in SECTIONS]
    assert places == sorted(places)
    assert min(places) > 0
    for field in fields(remedy):
        assert f"        {field.name}: " in text


def test_the_catalogue_is_scanned_the_least_risky_first() -> None:
    names = [remedy.name for remedy in catalogue()]
    assert {"skip-step", "restore-batch-norm"} <= set(names[:3])
    assert len(set(names)) == len(names)
    assert [by_name()[name] for name in names] == list(catalogue())
    grades = [list(Safety).index(remedy.safety) for remedy in catalogue()]
    assert grades == sorted(grades)


def test_a_run_without_optimizers_is_refused() -> None:
    run = trained()
    run.adapters = ()
    refused = {remedy.name for remedy in catalogue() if remedy().obstacle(run) is not None}
    assert {"skip-step", "clip-gradients", "decay-learning-rate"} <= refused


def test_manual_sgd_without_schedulers_can_be_treated() -> None:
    guarding = Guarding()
    fit(Regressor(partial(SGD, lr=0.1)), batches(3), guarding)
    assert by_name()["decay-learning-rate"]().obstacle(guarding.run) is None
