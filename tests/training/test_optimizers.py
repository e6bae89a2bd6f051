from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.optim import LBFGS, SGD, Adam, AdamW
from torch.optim import lr_scheduler as schedules

from lightning_plateau.training import learning_rate
from lightning_plateau.training.optimizers import OptimizerAdapter, adapt, adapter_of
from tests.trainings import Guarding, ManualRegressor, Regressor, batches, fit, quiet, scaled

STEPS = 60


def sequential(optimizer: Any) -> Any:
    warm_up = schedules.LinearLR(optimizer, start_factor=0.1, total_iters=10)
    decay = schedules.CosineAnnealingLR(optimizer, T_max=30, eta_min=0.01)
    return schedules.SequentialLR(optimizer, [warm_up, decay], milestones=[10])


def chained(optimizer: Any) -> Any:
    warm_up = schedules.ConstantLR(optimizer, factor=0.1, total_iters=10)
    return schedules.ChainedScheduler([warm_up, schedules.ExponentialLR(optimizer, 0.95)])


def nested(optimizer: Any) -> Any:
    restarts = schedules.CosineAnnealingWarmRestarts(optimizer, T_0=7, eta_min=0.005)
    chain = chained(optimizer)
    return schedules.SequentialLR(optimizer, [chain, restarts], milestones=[25])


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "lambda": partial(schedules.LambdaLR, lr_lambda=lambda step: 0.9**step),
    "multiplicative": partial(schedules.MultiplicativeLR, lr_lambda=lambda step: 0.97),
    "step": partial(schedules.StepLR, step_size=7, gamma=0.5),
    "multi-step": partial(schedules.MultiStepLR, milestones=[8, 30], gamma=0.3),
    "constant": partial(schedules.ConstantLR, factor=0.2, total_iters=30),
    "linear": partial(schedules.LinearLR, total_iters=30),
    "exponential": partial(schedules.ExponentialLR, gamma=0.95),
    "polynomial": partial(schedules.PolynomialLR, total_iters=50, power=2.0),
    "cosine": partial(schedules.CosineAnnealingLR, T_max=15, eta_min=0.02),
    "warm-restarts": partial(schedules.CosineAnnealingWarmRestarts, T_0=9, eta_min=0.02),
    "one-cycle": partial(schedules.OneCycleLR, max_lr=0.5, total_steps=STEPS + 5),
    "one-cycle-three-phases": partial(
        schedules.OneCycleLR, max_lr=0.5, total_steps=STEPS + 5, three_phase=True
    ),
    "cyclic": partial(schedules.CyclicLR, base_lr=0.01, max_lr=0.3, step_size_up=8),
    "plateau": partial(schedules.ReduceLROnPlateau, patience=3, factor=0.5, min_lr=0.02),
    "sequential": sequential,
    "chained": chained,
    "nested": nested,
}


def build(make: Callable[[Any], Any]) -> tuple[Any, Any]:
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    groups = [{"params": weights[:1]}, {"params": weights[1:], "lr": 0.2}]
    optimizer = SGD(groups, lr=0.1, momentum=0.9)
    return optimizer, make(optimizer)


def advance(optimizer: Any, scheduler: Any) -> list[float]:
    optimizer.step()
    if isinstance(scheduler, schedules.ReduceLROnPlateau):
        scheduler.step(1.0)
    else:
        scheduler.step()
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.filterwarnings("ignore:The epoch parameter in", "ignore:Detected call of")
@pytest.mark.parametrize("when", [0, 4, 17])
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_schedule_keeps_the_factor(make: Callable[[Any], Any], when: int) -> None:
    plain, treated = build(make), build(make)
    for step in range(STEPS):
        if step == when:
            learning_rate.scale(treated[0], [treated[1]], 0.5)
        rates, halved = advance(*plain), advance(*treated)
        expected = [rate * (0.5 if step >= when else 1.0) for rate in rates]
        assert halved == pytest.approx(expected, rel=1e-9)


@pytest.mark.filterwarnings("ignore:The epoch parameter in", "ignore:Detected call of")
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_scaling_at_once_undone_leaves_no_trace(make: Callable[[Any], Any]) -> None:
    optimizer, scheduler = build(make)
    for _ in range(13):
        advance(optimizer, scheduler)

    def everything() -> Any:
        state = copy.deepcopy(scheduler.state_dict())
        inner = state.pop("_schedulers", ())
        return optimizer.state_dict()["param_groups"], state, inner

    before = copy.deepcopy(everything())
    undo = learning_rate.scale(optimizer, [scheduler], 1 / 3)
    learning_rate.restore(optimizer, [scheduler], undo)
    assert str(everything()) == str(before)


@pytest.mark.filterwarnings("ignore:The epoch parameter in", "ignore:Detected call of")
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_schedule_that_is_scaled_back_later_goes_on_as_if_nothing_was(
    make: Callable[[Any], Any],
) -> None:
    plain, treated = build(make), build(make)
    for step in range(STEPS):
        if step == 5:
            undo = learning_rate.scale(treated[0], [treated[1]], 0.3)
        if step == 20:
            learning_rate.restore(treated[0], [treated[1]], undo)
        rates, others = advance(*plain), advance(*treated)
    assert others == pytest.approx(rates, rel=1e-9)


def test_a_tensor_stays_the_same_tensor() -> None:
    rate = torch.tensor(0.1)
    optimizer = Adam([nn.Parameter(torch.ones(1))], lr=rate, capturable=False)
    scheduler = schedules.CosineAnnealingLR(optimizer, T_max=10)
    undo = learning_rate.scale(optimizer, [scheduler], 0.5)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.05)
    learning_rate.restore(optimizer, [scheduler], undo)
    assert torch.equal(rate, torch.tensor(0.1))


class Own(schedules.LRScheduler):
    """A schedule with a number of its own, of the kind that people write."""

    def __init__(self, optimizer: Any, floor: float) -> None:
        self.floor = floor
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [self.floor + base * 0.9**self.last_epoch for base in self.base_lrs]


class Wrapping(schedules.LRScheduler):
    """A schedule that holds on to something which must not be copied."""

    def __init__(self, optimizer: Any, module: nn.Module) -> None:
        self.module = module
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return self.base_lrs


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_schedulers_of_others_are_tried_on_a_copy() -> None:
    optimizer, own = build(partial(Own, floor=0.05))
    before = copy.deepcopy(own.state_dict())
    assert not learning_rate.keeps_scale(optimizer, own)
    assert own.state_dict() == before
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.15)
    assert learning_rate.keeps_scale(*build(partial(Own, floor=0.0)))
    assert not learning_rate.keeps_scale(*build(partial(Wrapping, module=nn.Linear(1, 1))))
    assert learning_rate.keeps_scale(*build(SCHEDULES["nested"]))


def test_a_scheduler_that_loses_the_factor_is_an_obstacle() -> None:
    optimizer, own = build(partial(Own, floor=0.05))
    obstacle = OptimizerAdapter(optimizer, schedulers=(own,)).obstacle("scale-learning-rate")
    assert obstacle == "Own has numbers of its own, so that a factor would be lost"


@pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
def test_a_factor_must_be_positive_and_finite(factor: float) -> None:
    with pytest.raises(ValueError, match="factor must be a positive finite number"):
        learning_rate.scale(SGD([torch.zeros(1)], lr=0.1), [], factor)


class Scheduled(Regressor):
    """Trained with a schedule that is stepped every batch."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._schedule = make
        self.rates: list[float] = []

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1, momentum=0.9)
        scheduler = {"scheduler": self._schedule(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_train_batch_start(self, *_: Any) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])


class Halving(Guarding):
    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        super().on_train_batch_end(trainer, *rest)
        if trainer.global_step == 5:
            self.run.adapters[0].scale_learning_rate(0.5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["cosine", "one-cycle", "sequential", "lambda", "cyclic"])
def test_the_factor_survives_a_checkpoint_without_this_library(name: str, tmp_path: Path) -> None:
    make, path = SCHEDULES[name], tmp_path / "last.ckpt"
    plain, treated, resumed = Scheduled(make), Scheduled(make), Scheduled(make)
    fit(plain, batches(10), max_epochs=3)
    fit(treated, batches(10), Halving(), max_epochs=1).save_checkpoint(path)
    torch.load(path, weights_only=True)
    Trainer(**quiet(max_epochs=3)).fit(resumed, batches(10), ckpt_path=path)
    expected = [rate * (0.5 if step >= 5 else 1.0) for step, rate in enumerate(plain.rates)]
    assert treated.rates + resumed.rates == pytest.approx(expected, rel=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        (Regressor(), {}, ()),
        (Regressor(partial(AdamW, fused=True)), {}, ("fused", "handles-unscaling")),
        (Regressor(partial(LBFGS, lr=0.1)), {}, ("closure",)),
        (ManualRegressor(), {}, ("manual",)),
        (Regressor(), {"plugins": scaled()}, ("scaler",)),
    ],
)
def test_capabilities(module: Any, settings: Any, words: tuple[str, ...]) -> None:
    trainer = fit(module, batches(1), **settings)
    (adapter,) = adapt(trainer)
    assert adapter.capabilities == words
    assert adapter_of([adapter], trainer.optimizers[0]) is adapter
    assert adapter_of([adapter], SGD([torch.zeros(1)], lr=0.1)) is None
    assert adapter.parameters == list(module.parameters())


def test_what_cannot_work_is_refused_with_a_reason() -> None:
    parameters = [nn.Parameter(torch.ones(1))]
    repeated = OptimizerAdapter(LBFGS(parameters), closure_repeats=True)
    assert repeated.obstacle("skip") == "LBFGS evaluates its closure several times a step"
    assert repeated.obstacle("clip") is not None
    assert repeated.obstacle("roll-back") is None
    deepspeed = OptimizerAdapter(SGD(parameters, lr=0.1), deepspeed=True)
    assert all(
        deepspeed.obstacle(action)
        for action in ("skip", "clip", "scale-learning-rate", "roll-back")
    )
    shards = OptimizerAdapter(SGD(parameters, lr=0.1), sharded=True, flat_shards=True)
    assert shards.obstacle("skip") is not None
    assert shards.obstacle("scale-learning-rate") is None


def test_a_subclass_with_a_step_of_its_own_is_not_fused() -> None:
    class Mine(AdamW):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = fit(Regressor(partial(Mine, fused=True)), batches(1), plugins=scaled())
    (adapter,) = adapt(trainer)
    assert not adapter.fused
    assert adapter.handles_unscaling
    assert adapter.obstacle("skip") is not None


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_scaling_gradients_covers_every_kind() -> None:
    dense, sparse = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, 2))
    half = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    unused = nn.Parameter(torch.ones(1))
    dense.grad = torch.full((3,), 4.0)
    half.grad = torch.full((2,), 4.0, dtype=torch.bfloat16)
    sparse.grad = torch.sparse_coo_tensor([[0, 0, 2]], torch.full((3, 2), 4.0), (3, 2))
    adapter = OptimizerAdapter(SGD([dense, sparse, half, unused], lr=0.1))
    for coefficient in (0.5, torch.tensor(0.5)):
        adapter.scale_gradients(coefficient)
    assert dense.grad.tolist() == [1.0] * 3
    assert half.grad.tolist() == [1.0] * 2
    assert sparse.grad.to_dense().tolist() == [[2.0, 2.0], [0.0, 0.0], [1.0, 1.0]]
