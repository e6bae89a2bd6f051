"""A check before training names what is wrong, and leaves everything as it was."""

from __future__ import annotations

import json
import random
import threading
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_plateau import Checkup, check
from lightning_plateau.demo.faults import FAULTS
from lightning_plateau.framework import LightningDataModule
from tests.digits import Digits, loader

ON_CPU = {"accelerator": "cpu"}


def checked(module: Any, *data: Any, **settings: Any) -> Checkup:
    settings = {"trainer": ON_CPU, "progress_bar": False, "steps": 60, **settings}
    data = data or (loader(512), loader(64, shuffle=False, first=1500))
    return check(module, *data, **settings)


def codes(found: Checkup) -> list[str]:
    return [finding.code for finding in found.findings]


class Doubled(Digits):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(dim=1)


class Narrow(Digits):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return F.cross_entropy(self(batch[0])[:, :5], batch[1])


def test_a_healthy_module_is_well_and_left_as_it_was() -> None:
    module = Digits()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    randomness = torch.get_rng_state(), random.getstate()
    found = checked(module)
    assert found.ok
    assert found.history.step == 60
    assert all(torch.equal(before[name], now) for name, now in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), randomness[0])
    assert random.getstate() == randomness[1]
    assert module._trainer is None
    assert str(found).startswith("lightning-plateau: healthy. No fault in 60 steps")
    assert "inputs count" in found.text()
    assert max(map(len, found.text(80).splitlines())) <= 80
    assert len(found.text().splitlines()) <= 25


def test_a_fault_is_named() -> None:
    found = checked(Doubled())
    assert not found.ok
    assert codes(found)[0] == "LP701"
    assert json.loads(json.dumps(found.to_dict()))["findings"][0]["code"] == "LP701"


def test_what_would_end_the_training_is_reported() -> None:
    found = checked(Narrow())
    assert codes(found)[0] == "LP105"
    assert "IndexError" in found.error
    assert "raised    IndexError" in found.text()

    class Broken(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ZeroDivisionError("nothing to see")

    found = checked(Broken())
    assert not found.ok
    assert "raised an error" in found.text()


def test_a_class_a_function_and_a_datamodule_are_taken() -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader(128)

    short = {"trainer": ON_CPU, "progress_bar": False, "steps": 10}
    assert check(Digits, datamodule=Data(), **short).history.step == 10
    assert check(partial(Digits, lr=1e-3), loader(128), **short).history.step == 10


def test_what_cannot_be_checked_is_refused() -> None:
    module = Digits()
    module.lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot be copied .* pass a function that makes it"):
        checked(module)
    with pytest.raises(TypeError, match="must be a LightningModule"):
        checked("Digits")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        checked(Digits(), steps=0)
    with pytest.raises(ValueError, match="most_s must be positive"):
        checked(Digits(), most_s=0.0)
    with pytest.raises(ValueError, match="select expects codes"):
        checked(Digits(), select=["LP999"])


def test_a_module_that_is_used_by_another_name_is_refused() -> None:
    net = Digits().net

    class Elsewhere(Digits):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return F.cross_entropy(net(batch[0]), batch[1])

    with pytest.raises(TypeError, match="by another name than self"):
        checked(Elsewhere(), steps=5)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert checked(Elsewhere, steps=5).error == ""


def test_it_ends_in_time_and_heeds_the_settings() -> None:
    assert checked(Digits(), most_s=1e-3, steps=10_000).history.step < 100
    found = checked(Doubled(), ignore=["LP701"], steps=10)
    assert "LP701" not in codes(found)
    settings = {**ON_CPU, "max_epochs": 1, "callbacks": [object()], "logger": object()}
    settings |= {"devices": 8, "strategy": "ddp", "num_nodes": 2}
    assert checked(Digits(), trainer=settings).history.step == 16


def test_the_progress_bar_is_drawn_and_taken_away(capsys: Any) -> None:
    assert checked(Digits(), steps=10, progress_bar=True).error == ""
    assert "lightning-plateau check" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_of_the_demo_is_named(name: str) -> None:
    torch.manual_seed(1)
    training = FAULTS[name].build()
    torch.manual_seed(1)  # the order of samples, however many numbers the build drew
    found = check(
        training.module, training.train, training.validation, trainer=ON_CPU, progress_bar=False
    )
    # Units that are dead from the start were initialized badly.
    expected = (*FAULTS[name].expected, *(["LP504"] if name == "dead-units" else []))
    assert codes(found)[:1] == [] if not expected else codes(found)[0] in expected
