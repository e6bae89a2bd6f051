from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, NAdam, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, SequentialLR, StepLR

from lightning_plateau import PlateauCallback
from lightning_plateau.remedies.switch_optimizer import SwitchOptimizer
from lightning_plateau.training.run import Run
from lightning_plateau.treatment.policy import Policy
from tests.digits import Digits, digits, loader, trainer
from tests.trainings import (
    Guarding,
    ManualRegressor,
    Regressor,
    assert_equal,
    batches,
    fit,
    scaled,
    state_of,
)

MAKERS = {
    "sgd": partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": partial(Adam, lr=0.01, amsgrad=True),
    "adamw": partial(AdamW, lr=0.01, betas=(0.8, 0.9)),
    "adamw-fused": partial(AdamW, lr=0.01, fused=True),
    "rmsprop": partial(RMSprop, lr=0.01, centered=True),
    "adagrad": partial(Adagrad, lr=0.01),
}
KINDS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")


def run_of(make: Any, module: Any = Regressor, **settings: Any) -> Run:
    guarding = Guarding()
    fit(module(make), batches(3), guarding, **settings)
    return guarding.run


def step(run: Run) -> None:
    optimizer = run.trainer.optimizers[0]
    for parameter in run.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_there_and_back_again(make: Any, to: Any) -> None:
    run = run_of(make)
    before, groups = state_of(run.trainer), run.trainer.optimizers[0].state_dict()["param_groups"]
    change = SwitchOptimizer(to=to).apply(run)
    assert type(run.trainer.optimizers[0]).__name__.lower() == to
    assert run.adapters[0].optimizer is run.trainer.optimizers[0]
    assert run.optimizer_since == run.step > 0
    step(run)
    weights = run.module.state_dict()
    SwitchOptimizer(to=to).revert(run, change)
    after = state_of(run.trainer)
    assert_equal({**before, **{f"module/{k}": v for k, v in weights.items()}}, after)
    assert run.optimizer_since == 0
    assert run.trainer.optimizers[0].state_dict()["param_groups"] == groups
    step(run)


def grouped(parameters: Any) -> SGD:
    first, *rest = parameters
    return SGD([{"params": [first], "lr": 0.01}, {"params": rest, "weight_decay": 0.1}], lr=0.1)


def test_groups_keep_their_ratios_and_settings() -> None:
    run = run_of(grouped)
    SwitchOptimizer(to="adamw", lr=1e-3).apply(run)
    first, second = run.trainer.optimizers[0].param_groups
    assert (first["lr"], second["lr"]) == (pytest.approx(1e-3), pytest.approx(1e-2))
    assert (first["weight_decay"], second["weight_decay"]) == (0, 0.1)
    assert first["betas"] == (0.9, 0.999)


class Scheduled(Regressor):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        parts = [StepLR(optimizer, 2, gamma=0.5), CosineAnnealingLR(optimizer, 10)]
        schedule = SequentialLR(optimizer, parts, [4])
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def test_the_schedule_drives_the_new_optimizer_in_its_old_shape() -> None:
    run = run_of(MAKERS["sgd"], Scheduled)
    twin = run_of(MAKERS["sgd"], Scheduled)
    SwitchOptimizer(to="adam", lr=5e-4).apply(run)
    # The rate that is asked for holds at once.
    factor = 5e-4 / twin.trainer.optimizers[0].param_groups[0]["lr"]
    for _ in range(10):
        for one in (run, twin):
            one.trainer.lr_scheduler_configs[0].scheduler.step()
        rates = [one.trainer.optimizers[0].param_groups[0]["lr"] for one in (run, twin)]
        assert rates[0] == pytest.approx(factor * rates[1])


class OneCycle(Regressor):
    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=40)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


@pytest.mark.parametrize(
    ("make", "module", "settings", "words"),
    [
        (partial(LBFGS, lr=0.1), Regressor, {}, "LBFGS is none of sgd"),
        (partial(NAdam, lr=0.1), Regressor, {}, "NAdam is none of sgd"),
        (MAKERS["sgd"], ManualRegressor, {}, "step the optimizer yourself"),
        (MAKERS["sgd"], OneCycle, {}, "moves the momentum too"),
        (partial(SGD, lr=0.0), Regressor, {}, "the learning rate is 0"),
        (MAKERS["adam"], Regressor, {"plugins": "scaler"}, None),
    ],
)
def test_where_it_cannot_work_it_says_why(
    make: Any, module: Any, settings: Any, words: str | None
) -> None:
    run = run_of(make, module, **({"plugins": scaled()} if settings else {}))
    obstacle = SwitchOptimizer().obstacle(run)
    assert obstacle is None if words is None else words in str(obstacle)


def test_the_default_depends_on_what_there_is() -> None:
    for make, name in (
        (MAKERS["sgd"], "Adam"),
        (MAKERS["adagrad"], "Adam"),
        (MAKERS["adam"], "SGD"),
        (MAKERS["adamw"], "Adam"),  # its betas are odd
    ):
        run = run_of(make)
        assert SwitchOptimizer().apply(run).after["optimizer"] == name


@pytest.mark.parametrize(("field", "value"), [("to", "lion"), ("lr", 0.0)])
def test_settings_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*, but is {value!r}"):
        SwitchOptimizer(**{field: value})


class Deep(Digits):
    """Plain SGD at a small rate in a deep network of tanh: it gets nowhere."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for _ in range(6):
            layers += [nn.Linear(64, 64), nn.Tanh()]
        self.net = nn.Sequential(*layers, nn.Linear(64, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.005)
        return [optimizer], [StepLR(optimizer, 5)]


def accuracy(module: Digits) -> float:
    images, labels = digits()
    with torch.no_grad():
        return float((module.eval()(images[1000:]).argmax(1) == labels[1000:]).float().mean())


@pytest.mark.slow
def test_a_slow_training_is_saved_and_resumes(tmp_path: Path) -> None:
    def training(epochs: int) -> tuple[Any, PlateauCallback]:
        policy = Policy(remedies=("switch-optimizer",), cooldown_steps=0)
        callback = PlateauCallback(policy=policy, dirpath=str(tmp_path), select=["LP401"])
        return trainer(callback, max_epochs=epochs), callback

    torch.manual_seed(0)
    alone, module = Deep(), Deep()
    trainer(max_epochs=6).fit(alone, loader(1000))
    first, callback = training(6)
    first.fit(module, loader(1000))
    assert [made.remedy for made in callback.journal.interventions] == ["switch-optimizer"]
    assert accuracy(alone) < 0.4
    assert accuracy(module) > 0.7
    first.save_checkpoint(tmp_path / "last.ckpt")
    before = float(next(iter(first.optimizers[0].state.values()))["step"])

    second, _ = training(7)
    resumed = Deep()
    second.fit(resumed, loader(1000), ckpt_path=tmp_path / "last.ckpt")
    assert type(second.optimizers[0]) is Adam
    assert second.lr_scheduler_configs[0].scheduler.optimizer is second.optimizers[0]
    moments = next(iter(second.optimizers[0].state.values()))
    assert float(moments["step"]) == before + 32
    assert accuracy(resumed) > accuracy(module) - 0.1
