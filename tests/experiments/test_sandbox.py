"""A training in which every experiment was made ends as one without, bit for bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Accuracy, MeanMetric

from lightning_plateau.experiments.budget import Budget
from lightning_plateau.experiments.sandbox import Sandbox, undisturbed
from tests.digits import Digits, loader
from tests.experiments.conducting import Conducting, assert_bitwise_equal, ending
from tests.trainings import scaled


class Measured(Digits):
    """Convolution, batch norm, dropout, metrics, a schedule, and all three random generators."""

    def __init__(self) -> None:
        super().__init__(augment=True)
        self.accuracy = Accuracy("multiclass", num_classes=10)
        self.mean = MeanMetric()
        self.seen: list[Tensor] = []
        self.steps = 0
        self.generator = torch.Generator().manual_seed(3)
        self.net[0].register_forward_hook(lambda module, args, out: self.seen.append(out.mean()))
        self.plain = np.random.default_rng(3)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        images.mul_(1.01)  # what is given is changed
        if random.random() < 0.5:
            images = images.flip(-1)
        images = images * (1 + 0.1 * np.random.randn() + 0.1 * self.plain.normal())  # noqa: NPY002
        images = images + 0.01 * torch.randn(images.shape, generator=self.generator)
        scores = self(images)
        loss = F.cross_entropy(scores, labels)
        self.mean(loss.detach())
        self.accuracy(scores, labels)
        self.steps += 1
        self.seen = self.seen[-5:]
        self.last = loss
        self.log("loss", loss, prog_bar=True)
        self.log("mean", self.mean, on_step=True, on_epoch=True)
        self.log_dict({"accuracy": self.accuracy}, on_epoch=True)
        return {"loss": loss, "scores": scores}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=200)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Reader(Digits):
    """An LSTM with dropout and weight norm, trained by momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, num_layers=2, dropout=0.3, batch_first=True)
        self.net = nn.utils.parametrizations.weight_norm(nn.Linear(16, 10))

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.lstm(images.squeeze(1))
        return self.net(states[:, -1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Adversaries(Digits):
    """A generative adversarial network in manual optimization, with toggled optimizers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 64))
        self.critic = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        images = batch[0].flatten(1)
        first, second = self.optimizers()
        fake = self.net(torch.randn(len(images), 8))
        with first.toggle_model():
            loss = -self.critic(fake).mean()
            first.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(first, 1.0, "norm")
            first.step()
        self.toggle_optimizer(second)
        loss = F.softplus(self.critic(fake.detach())).mean() - self.critic(images).mean()
        self.log("critic", loss)
        second.zero_grad()
        self.manual_backward(loss)
        second.step()
        self.untoggle_optimizer(second)
        self.lr_schedulers().step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.critic(batch[0].flatten(1)).mean())

    def configure_optimizers(self) -> Any:
        first = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        second = torch.optim.Adam(self.critic.parameters(), lr=1e-3)
        return [first, second], [torch.optim.lr_scheduler.StepLR(second, 10)]


class ByHand(Digits):
    """Manual optimization with one optimizer, whose step is given a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.manual_backward(loss)
            return loss

        optimizer.step(closure=closure)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "accumulated": {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5},
    "double": {"precision": "64-true"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_convolutional_network_ends_bitwise_the_same(name: str) -> None:
    steps = 110 if name == "plain" else 40
    callback = Conducting(at=(10, 50, 100) if name == "plain" else (10, 31))
    disturbed, _ = ending(callback, Measured, steps=steps, **SETTINGS[name])
    alone, _ = ending(None, Measured, steps=steps, **SETTINGS[name])
    assert_bitwise_equal(disturbed, alone)
    assert [result.failure for result in callback.results if result.failure] == []
    assert sum(bool(result.rows) for result in callback.results) > 6


@pytest.mark.parametrize("make", [Reader, Adversaries, ByHand])
def test_other_networks_end_bitwise_the_same(make: Any) -> None:
    callback = Conducting(at=(10, 50))
    disturbed, _ = ending(callback, make, steps=60)
    alone, _ = ending(None, make, steps=60)
    assert_bitwise_equal(disturbed, alone)
    assert [result.failure for result in callback.results if result.failure] == []


def test_steps_on_a_scaled_loss_are_those_of_the_training() -> None:
    class Once(Conducting):
        """Makes the first step in the sandbox, before the training makes it."""

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: Any) -> None:
            if trainer.global_step == 0:
                with undisturbed(pl_module):
                    sandbox = Sandbox(trainer, pl_module, Budget())
                    self.loss = sandbox.step(batch)
                self.made = [p.detach().clone() for p in sandbox.module.parameters()]

    class Linear(Digits):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    callback = Once()
    _, fit = ending(callback, Linear, steps=1, plugins=scaled(64.0))
    for made, real in zip(callback.made, fit.lightning_module.parameters(), strict=True):
        torch.testing.assert_close(made, real, rtol=1e-4, atol=1e-5)


class Compiled(Digits):
    """A part of the network is compiled, and so is the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(self.net, backend="eager")
        self.criterion = torch.compile(F.cross_entropy, backend="eager")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.criterion(self(batch[0]), batch[1])


@pytest.mark.slow
def test_compiled_parts_run_as_what_they_were_compiled_from() -> None:
    callback = Conducting(at=(16,))
    disturbed, _ = ending(callback, Compiled, steps=18, data=loader(1024))
    alone, _ = ending(None, Compiled, steps=18, data=loader(1024))
    assert_bitwise_equal(disturbed, alone)
    assert [result.failure for result in callback.results if result.failure] == []
    assert all(result.rows or result.inconclusive for result in callback.results)
