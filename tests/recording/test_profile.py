"""The facts of a run that do not change from step to step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.profile import Profile
from lightning_plateau.framework import Callback
from lightning_plateau.recording.profile import Hints, take_profile
from tests.digits import Digits, loader, trainer

DATA = TensorDataset(torch.zeros(20, 1, 8, 8), torch.zeros(20, dtype=torch.long))


class Take(Callback):
    def __init__(self, hints: Hints = Hints()) -> None:  # noqa: B008 - frozen
        self.hints, self.profile = hints, Profile()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        capabilities: list[tuple[str, ...]] = [("fused",)] * len(trainer.optimizers)
        self.profile = take_profile(trainer, pl_module, capabilities, self.hints)


def taken(module: Any = None, data: Any = None, validation: Any = None, **settings: Any) -> Profile:
    take = Take(settings.pop("hints", Hints()))
    fit = trainer(take, **settings)
    fit.fit(module or Digits(), data if data is not None else loader(64), validation)
    return take.profile


def test_facts_of_a_plain_run() -> None:
    profile = taken(
        validation=loader(32), max_epochs=3, hints=Hints(10, "classification", "val_loss")
    )
    assert [fact.name for fact in profile.parameters] == [n for n, _ in Digits().named_parameters()]
    assert profile.parameters[0].module == "net.0"
    assert all(fact.trainable and fact.optimized for fact in profile.parameters)
    assert profile.module("net.1").attributes["momentum"] == 0.1  # type: ignore[union-attr]
    assert [fact.name for fact in profile.modules_of_kind("Dropout")] == ["net.5"]
    (optimizer,) = profile.optimizers
    assert (optimizer.kind, optimizer.capabilities) == ("AdamW", ("fused",))
    assert optimizer.groups[0].settings["lr"] == 1e-2
    assert optimizer.groups[0].settings["betas_1"] == 0.999
    assert (profile.batches_per_epoch, profile.planned_steps, profile.planned_epochs) == (2, 6, 3)
    assert (profile.dataset_size, profile.shuffled, profile.has_validation) == (64, True, True)
    assert (profile.classes, profile.task, profile.monitor) == (10, "classification", "val_loss")
    assert from_plain(Profile, to_plain(profile)) == profile


def test_plans_count_optimizer_steps() -> None:
    accumulated = taken(data=loader(160), accumulate_grad_batches=3, max_epochs=2)
    assert (accumulated.planned_steps, accumulated.steps_per_epoch) == (4, 2)
    assert taken(max_steps=1, max_epochs=-1).planned_steps == 1
    assert taken(max_steps=1, max_epochs=-1).planned_epochs is None


def test_clipping_that_the_user_chose() -> None:
    profile = taken(gradient_clip_val=0.5, gradient_clip_algorithm="value")
    assert (profile.gradient_clip_val, profile.gradient_clip_algorithm) == (0.5, "value")


class Partly(Digits):
    """Freezes one layer, forgets another, schedules the rest."""

    def configure_optimizers(self) -> Any:
        self.net[0].requires_grad_(False)
        optimizer = torch.optim.SGD(self.net[6].parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def test_frozen_and_forgotten_parameters_and_schedulers() -> None:
    profile = taken(Partly())
    facts = {fact.name: (fact.trainable, fact.optimized) for fact in profile.parameters}
    assert facts["net.0.weight"] == (False, False)
    assert facts["net.1.weight"] == (True, False)
    assert facts["net.6.weight"] == (True, True)
    (schedule,) = profile.schedulers
    assert (schedule.kind, schedule.interval, schedule.optimizer) == ("StepLR", "step", 0)
    assert schedule.settings["gamma"] == 0.5


def test_kinds_are_of_torch_never_of_the_user() -> None:
    class MyConvolution(nn.Conv2d):
        pass

    module = Digits()
    module.net[0] = MyConvolution(1, 4, 3, padding=1)
    assert taken(module).module("net.0").kind == "Conv2d"  # type: ignore[union-attr]


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([DATA[0]] * 3)


class Unmeasured(Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        raise NotImplementedError("no length")

    def __getitem__(self, index: int) -> Any:
        return DATA[index]


class Shuffled(BatchSampler):
    """A batch sampler of the user, who knows what order it has."""

    def __init__(self) -> None:
        super().__init__(RandomSampler(DATA), 4, False)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"shuffle": True}, True, id="shuffle"),
        pytest.param({"shuffle": False}, False, id="no-shuffle"),
        pytest.param({"sampler": SequentialSampler(DATA)}, False, id="sequential"),
        pytest.param({"sampler": WeightedRandomSampler([1.0] * 20, 20)}, True, id="weighted"),
        pytest.param({"sampler": SubsetRandomSampler(range(10))}, True, id="subset"),
        pytest.param({"sampler": [3, 1, 2]}, None, id="order-of-the-user"),
        pytest.param({"batch_sampler": Shuffled()}, None, id="batches-of-the-user"),
    ],
)
def test_shuffling_is_claimed_only_where_it_is_known(settings: Any, expected: bool | None) -> None:
    data = DataLoader(
        DATA, **({"batch_size": 4} if "batch_sampler" not in settings else {}), **settings
    )
    assert taken(data=data).shuffled is expected


def test_streams_have_no_length_and_no_known_order() -> None:
    profile = taken(data=DataLoader(Stream(), 2))
    assert (profile.batches_per_epoch, profile.planned_steps) == (None, None)
    assert (profile.dataset_size, profile.shuffled) == (None, None)


def test_datasets_that_refuse_to_tell_their_length() -> None:
    data = DataLoader(Unmeasured(), batch_sampler=[[0, 1], [2, 3]])
    assert taken(data=data).dataset_size is None


class Both(Digits):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch["a"], batch_idx)


def test_several_loaders_at_once() -> None:
    assert taken(Both(), {"a": loader(64), "b": loader(64)}).batches_per_epoch == 2
