"""Sick: optimizers, schedules, and what watches them."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, sgd
from tests.faults.networks import Attention, Rows, convolutions, perceptron
from tests.faults.program import Training, program


def _images(batch_size: int = 32) -> Any:
    images, labels = data.digits()
    return data.loaders(images / 16, labels, batch_size=batch_size)


def _wine(batch_size: int = 16) -> Any:
    x, y = data.wine()
    return data.loaders(data.standardized(x), y, batch_size=batch_size)


def _diabetes(batch_size: int = 32) -> Any:
    x, y = data.diabetes()
    return data.loaders(20 * x, (y - y.mean()) / y.std(), batch_size=batch_size)


@program("LP408", accepted=("LP407", "LP409"), family="rnn", part="validation")
def cosine_over_a_tenth_of_the_run() -> Training:
    """CosineAnnealingLR was given the steps of the first try, and stays at its floor."""

    class Net(Learner):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            if scheduler.last_epoch < 40:
                scheduler.step()

    module = Net(
        Rows(),
        optimizer=sgd(0.01),
        scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40),
        interval="step",
    )
    return Training(module, *_images(), {"max_epochs": 8})


@program("LP415", accepted=("LP407",))
def epsilon_of_one() -> Training:
    """Adam's eps is 1, as a paper on Inception had it, with the usual rate."""
    net = nn.Sequential(nn.Flatten(), perceptron(64, 10, 64, 2))
    return Training(Learner(net, optimizer=adam(1e-4, eps=1.0)), *_images(), {"max_epochs": 8})


@program("LP415", data="wine", part="validation", shows=("LP808",))
def betas_the_wrong_way_round() -> Training:
    """betas=(0.999, 0.9): the mean remembers all, the variance nothing."""
    module = Learner(perceptron(13, 3), optimizer=adam(1e-2, betas=(0.999, 0.1)))
    return Training(module, *_wine(), {"max_epochs": 12})


@program("LP416", family="cnn")
def early_stopping_waits_for_a_higher_loss() -> Training:
    """EarlyStopping watches the validation loss with mode="max"."""
    stop = EarlyStopping("val_loss", mode="max", patience=3)
    module = Learner(convolutions(1, 10, 8), optimizer=adam())
    return Training(module, *_images(), {"max_epochs": 20, "callbacks": [stop]})


@program("LP416", data="wine", part="validation")
def rate_is_lowered_because_it_improves() -> Training:
    """ReduceLROnPlateau takes an accuracy that rises for one that gets worse."""

    class Net(Learner):
        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            x, y = batch
            self.log("val_accuracy", (self(x).argmax(1) == y).float().mean())

    module = Net(
        perceptron(13, 3),
        optimizer=sgd(0.05),
        scheduler=lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1),
        monitor="val_accuracy",
    )
    return Training(module, *_wine(), {"max_epochs": 20})


@program("LP306", "LP406", accepted=("LP801",), data="diabetes")
def one_patient_at_a_time() -> Training:
    """Batches of one patient and a rate that was found for large batches."""
    module = Learner(perceptron(10, 1), F.mse_loss, sgd(0.1))
    return Training(module, *_diabetes(batch_size=1), {"max_epochs": 2})


@program("LP306", "LP406", accepted=("LP304", "LP501"), part="validation")
def one_digit_at_a_time() -> Training:
    """Batches of one digit with the rate and the momentum of batches of a hundred."""
    images, labels = data.digits()
    train, _ = data.loaders(images[:700].flatten(1) / 16, labels[:700], batch_size=1, held_out=0.0)
    module = Learner(perceptron(64, 10, 32, 2), optimizer=sgd(0.05, momentum=0.9))
    return Training(module, train, None, {"max_epochs": 1})


class Spiked(Dataset[Any]):
    """Rows of a table; a few are a thousand times too large, in another unit."""

    def __init__(self, x: Tensor, y: Tensor, bad: list[int], factor: float) -> None:
        self.x, self.y = x.clone(), y
        self.x[bad] *= factor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


@program(
    "LP303", "LP404", "LP301", "LP406", "LP101", accepted=("LP402",), shows=("LP303",),
    data="diabetes",
)  # fmt: skip
def rows_in_another_unit() -> Training:
    """Two patients in milligrams among all others in grams."""
    x, y = data.diabetes()
    table = Spiked(20 * x, (y - y.mean()) / y.std(), [100, 300], 1000.0)
    module = Learner(perceptron(10, 1), F.mse_loss, sgd(0.05))
    return Training(module, DataLoader(table, 16, shuffle=True), None, {"max_epochs": 12})


@program(
    "LP303", "LP404", "LP301", "LP406", "LP101", accepted=("LP402",), shows=("LP303",),
    family="cnn", part="validation",
)  # fmt: skip
def corrupt_images() -> Training:
    """Some images were read with the wrong type, and hold numbers in the thousands."""
    images, labels = data.digits()
    table = Spiked(images / 16, labels, [50, 400, 900, 1300], 3000.0)
    module = Learner(convolutions(1, 10, 8), optimizer=sgd(0.1))
    return Training(module, DataLoader(table, 32, shuffle=True), None, {"max_epochs": 5})


class _Twice(LightningModule):
    """Clips by hand, though the Trainer does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def on_after_backward(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 0.05)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


@program(shows=("LP309",))
def clipped_by_hand_and_by_the_trainer() -> Training:
    """A line from an older loop clips in a hook; the Trainer clips as well. Adam does not mind."""
    module = _Twice(nn.Sequential(nn.Flatten(), perceptron(64, 10, 64)))
    train, validation = _images()
    return Training(
        module, train, None, {"max_epochs": 6, "gradient_clip_val": 1.0},
        lambda: accuracy(module, validation) > 0.8,
    )  # fmt: skip


@program(shows=("LP309",), data="wine", part="validation")
def clipped_twice_at_one_value() -> Training:
    """The same on wine."""
    module = _Twice(perceptron(13, 3))
    train, validation = _wine()
    return Training(
        module, train, None, {"max_epochs": 12, "gradient_clip_val": 0.5},
        lambda: accuracy(module, validation) > 0.8,
    )  # fmt: skip


@program(shows=("LP903",))
def backward_past_lightning() -> Training:
    """Manual optimization calls loss.backward() itself and returns nothing: no loss is seen."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = nn.Sequential(nn.Flatten(), perceptron(64, 10, 64))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            F.cross_entropy(self(batch[0]), batch[1]).backward()
            optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    module = Net()
    train, validation = _images()
    return Training(
        module, train, None, {"max_epochs": 6}, lambda: accuracy(module, validation) > 0.8
    )


@program("LP410", family="transformer", part="validation")
def only_the_head_is_optimized() -> Training:
    """The optimizer is given the head; the untrained body stays as it was drawn."""

    class Net(Learner):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.net.head.parameters(), lr=1e-3)

    images, labels = data.digits()
    train, validation = data.loaders(images.squeeze(1) / 16, labels)
    return Training(Net(Attention(10, 8)), train, validation, {"max_epochs": 4})


@program("LP407", accepted=("LP405",), family="cnn")
def creeping_descent() -> Training:
    """SGD at 0.002, where 0.1 would do: the loss falls, and far too slowly."""
    module = Learner(convolutions(1, 10, 8), optimizer=sgd(2e-3, momentum=0.5))
    return Training(module, *_images(), {"max_epochs": 10})


@program("LP407", accepted=("LP405",), shows=("LP405",), data="breast-cancer", part="validation")
def creeping_descent_on_tumours() -> Training:
    """The same on a table."""
    x, y = data.breast_cancer()
    train, validation = data.loaders(data.standardized(x), y, batch_size=16)
    module = Learner(perceptron(30, 2), optimizer=sgd(3e-4))
    return Training(module, train, validation, {"max_epochs": 20})


class Slow(Dataset[Any]):
    """Reads as slowly as a disk at the other end of a network."""

    def __init__(self, x: Tensor, y: Tensor, wait_s: float) -> None:
        self.x, self.y, self.wait_s = x, y, wait_s

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        time.sleep(self.wait_s)
        return self.x[index], self.y[index]


@program("LP904", data="wine")
def read_one_by_one_from_a_slow_disk() -> Training:
    """The loader has no workers, and each sample takes a millisecond and a half."""
    x, y = data.wine()
    train = DataLoader(Slow(data.standardized(x), y, 1.5e-3), 16, shuffle=True)
    return Training(Learner(perceptron(13, 3), optimizer=adam()), train, None, {"max_epochs": 16})


@program("LP904", family="cnn", part="validation")
def images_from_a_slow_disk() -> Training:
    """The same with images, in smaller batches."""
    images, labels = data.digits()
    train = DataLoader(Slow(images[:1200] / 16, labels[:1200], 2e-3), 8, shuffle=True)
    module = Learner(convolutions(1, 10, 8), optimizer=adam())
    return Training(module, train, None, {"max_epochs": 1})


class ByHand(torch.optim.Optimizer):
    """Momentum, written by somebody who forgot the minus."""

    def __init__(self, parameters: Any, lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                velocity = state.setdefault("velocity", torch.zeros_like(parameter))
                velocity.mul_(group["momentum"]).add_(parameter.grad)
                parameter.add_(velocity, alpha=group["lr"])
        return loss


@program("LP417", family="cnn")
def optimizer_of_ones_own_forgets_the_minus() -> Training:
    """The velocity is added to the weights."""
    module = Learner(convolutions(1, 10, 8), optimizer=lambda p: ByHand(p, 0.01, 0.9))
    return Training(module, *_images(), {"max_epochs": 6})


class SignsByHand(torch.optim.Optimizer):
    """Sign descent, the difference taken the other way round."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.copy_(parameter - group["lr"] * -parameter.grad.sign())
        return loss


@program("LP417", data="wine", part="validation")
def signs_are_added() -> Training:
    """Two minus signs make a plus."""
    module = Learner(perceptron(13, 3), optimizer=lambda p: SignsByHand(p, 3e-3))
    return Training(module, *_wine(), {"max_epochs": 12})
