"""A training that is watched ends as one that is not, bit for bit, and never waits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_plateau import PlateauCallback
from lightning_plateau.framework import Callback
from tests.digits import Digits, loader, trainer

POLICIES = ["observe", "safe"]
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate_grad_batches": 3},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "clipped": {"gradient_clip_val": 0.5},
    "double": {"precision": "64-true"},
}


class Augmented(Digits):
    """Draws from all three random generators in every step."""

    def __init__(self) -> None:
        super().__init__(augment=True)
        self.drawn: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        if random.random() < 0.5:
            images = images.flip(-1)
        images = images * (1 + 0.1 * np.random.randn())  # noqa: NPY002 - what users do
        return super().training_step((images, labels), batch_idx)


def ending(
    callback: PlateauCallback | None, module: Any, data: Any = None, **settings: Any
) -> tuple[list[Any], Any]:
    """Return all that a training leaves behind, and the Trainer."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    model = module()
    fit = trainer(*([callback] if callback else []), **{"max_epochs": 2, **settings})
    fit.fit(model, data or loader(200, 16), loader(64, shuffle=False, first=1500))
    left: list[Any] = [*model.state_dict().values()]
    for optimizer in fit.optimizers:
        for state in optimizer.state_dict()["state"].values():
            left.extend(state.values())
    numpy_state = torch.from_numpy(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002
    left += [torch.get_rng_state(), numpy_state, random.getstate()]
    return left, fit


def assert_bitwise_equal(left: list[Any], right: list[Any]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        if isinstance(one, Tensor):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)
        else:
            assert one == other


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_healthy_run_is_bitwise_the_same(name: str, policy: Any, tmp_path: Path) -> None:
    callback = PlateauCallback(policy=policy, dirpath=str(tmp_path), every_n_steps=4)
    watched, _ = ending(callback, Augmented, **SETTINGS[name])
    alone, _ = ending(None, Augmented, **SETTINGS[name])
    assert_bitwise_equal(watched, alone)
    assert not callback.disabled
    assert callback.findings == ()
    assert callback.history.step > 0


class Sequences(Digits):
    """A frozen encoder in eval mode, a recurrent layer and attention with dropout."""

    def __init__(self) -> None:
        super().__init__()
        frozen = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.frozen = frozen.requires_grad_(False)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.net = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.frozen.eval()(images.squeeze(1))
        hidden, _ = self.lstm(hidden)
        return self.net(self.attention(hidden).mean(dim=1))


class Adversaries(Digits):
    """Two optimizers by hand; the second steps in every second batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        first, second = self.optimizers()
        first.zero_grad()
        self.manual_backward(F.cross_entropy(self(images), labels))
        first.step()
        if batch_idx % 2:
            second.zero_grad()
            self.manual_backward(self.critic(images + torch.randn_like(images)).square().mean())
            second.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(self.net.parameters(), lr=1e-2),
            torch.optim.SGD(self.critic.parameters(), lr=1e-2, momentum=0.9),
        ]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("module", [Sequences, Adversaries])
def test_other_kinds_of_runs_are_bitwise_the_same(module: Any, policy: Any, tmp_path: Path) -> None:
    callback = PlateauCallback(policy=policy, dirpath=str(tmp_path), every_n_steps=4)
    watched, _ = ending(callback, module)
    alone, _ = ending(None, module)
    assert_bitwise_equal(watched, alone)
    assert not callback.disabled


@pytest.mark.parametrize("policy", POLICIES)
def test_a_sick_run_that_nothing_may_mend_is_bitwise_the_same(policy: Any, tmp_path: Path) -> None:
    class Doubled(Augmented):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).softmax(dim=1)

    callback = PlateauCallback(policy=policy, dirpath=str(tmp_path), every_n_steps=4)
    watched, _ = ending(callback, Doubled)
    alone, _ = ending(None, Doubled)
    assert_bitwise_equal(watched, alone)
    assert "LP701" in [finding.code for finding in callback.findings]


class Meter(TorchDispatchMode):
    """Notes the operations that read a tensor's value on the host."""

    READS = ("_local_scalar_dense", "is_nonzero", "aten.equal", "aten.item")

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(read in str(func) for read in self.READS):
            self.reads.append(str(func))
        return func(*args, **(kwargs or {}))


class Metered(Callback):
    """Wraps the hooks of another callback and notes what they read, step by step."""

    HOOKS = (
        "on_train_batch_start",
        "on_before_backward",
        "on_before_optimizer_step",
        "on_train_batch_end",
    )

    def __init__(self, callback: PlateauCallback) -> None:
        self.reads: list[str] = []
        for name in self.HOOKS:
            setattr(callback, name, self.metered(getattr(callback, name)))

    def metered(self, hook: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> None:
            with Meter() as meter:
                hook(*args, **kwargs)
            self.reads += [f"{hook.__name__}: {read}" for read in meter.reads]

        return run


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("module", [Digits, Adversaries])
def test_no_step_reads_the_host(module: Any, policy: Any, tmp_path: Path) -> None:
    callback = PlateauCallback(policy=policy, dirpath=str(tmp_path), every_n_steps=200)
    metered = Metered(callback)
    ending(callback, module)
    assert not callback.disabled
    assert metered.reads == []


def test_nothing_stays_on_module_or_optimizer(tmp_path: Path) -> None:
    callback = PlateauCallback(dirpath=str(tmp_path))
    _, watched = ending(callback, Digits)
    _, alone = ending(None, Digits)

    def footprint(fit: Any) -> tuple[Any, ...]:
        module, (optimizer,) = fit.lightning_module, fit.optimizers
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
        steps = len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
        return hooks, steps, sorted(vars(optimizer)), sorted(vars(module))

    assert footprint(watched) == footprint(alone)
