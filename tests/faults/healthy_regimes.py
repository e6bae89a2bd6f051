"""Healthy: batches, epochs, precisions and lengths of every size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, explained, sgd
from tests.faults.program import Training, program


def _perceptron(hidden: int = 48) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, 10)
    )


def _training(
    batch_size: int,
    optimizer: Any,
    *,
    epochs: int = 10,
    least: float = 0.9,
    samples: int = 1797,
    validated: bool = True,
    **settings: Any,
) -> Training:
    images, labels = data.digits()
    train, validation = data.loaders(
        images[-samples:] / 16, labels[-samples:], batch_size=batch_size
    )
    module = Learner(_perceptron(), optimizer=optimizer)
    return Training(
        module,
        train,
        validation if validated else None,
        {"max_epochs": epochs, **settings},
        lambda: accuracy(module, validation) > least,
    )


@program()
def batches_of_four() -> Training:
    """Batches of four samples: a loss of much noise."""
    return _training(4, sgd(0.02), epochs=4)


@program(part="validation")
def single_samples() -> Training:
    """One sample a step."""
    return _training(1, sgd(0.01), epochs=2, validated=False)


@program()
def batches_of_a_thousand() -> Training:
    """Batches of 1,024 samples, two steps an epoch."""
    return _training(1024, adam(1e-2), epochs=60)


@program()
def all_data_in_each_step() -> Training:
    """One step an epoch, plain gradient descent on all data."""
    return _training(2000, sgd(0.5), epochs=200)


@program(data="iris", part="validation")
def full_batch_on_little_data() -> Training:
    """A hundred flowers, all in each step, as in every tutorial."""
    features, labels = data.iris()
    train, validation = data.loaders(features, labels, batch_size=100, held_out=1 / 3)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    module = Learner(net, optimizer=adam(0.01))
    return Training(
        module, train, validation, {"max_epochs": 150}, lambda: accuracy(module, validation) > 0.9
    )


@program(data="iris")
def a_hundred_flowers() -> Training:
    """A hundred flowers in batches of ten, not scaled."""
    features, labels = data.iris()
    train, validation = data.loaders(features, labels, batch_size=10, held_out=1 / 3)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    module = Learner(net, optimizer=adam(0.01))
    return Training(
        module, train, validation, {"max_epochs": 30}, lambda: accuracy(module, validation) > 0.9
    )


@program()
def thirty_steps() -> Training:
    """A run of thirty steps."""
    return _training(128, adam(1e-2), epochs=3, least=0.8, max_steps=30)


@program(data="wine", part="validation")
def forty_steps_of_momentum() -> Training:
    """A run of forty steps on wines."""
    features, labels = data.wine()
    train, validation = data.loaders(data.standardized(features), labels, batch_size=32)
    net = nn.Sequential(nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 3))
    module = Learner(net, optimizer=sgd(0.05, momentum=0.9))
    return Training(
        module, train, validation, {"max_epochs": 8}, lambda: accuracy(module, validation) > 0.9
    )


@program(data="breast-cancer", family="linear")
def three_thousand_steps() -> Training:
    """A tiny model, three thousand steps, without validation."""
    features, labels = data.breast_cancer()
    train, validation = data.loaders(data.standardized(features), labels, batch_size=16)
    module = Learner(nn.Linear(30, 2), optimizer=sgd(0.05, weight_decay=1e-3))
    return Training(
        module, train, None, {"max_steps": 3000}, lambda: accuracy(module, validation) > 0.93
    )


@program()
def gradient_accumulation() -> Training:
    """Four batches of sixteen for each step."""
    return _training(16, adam(3e-3), epochs=12, accumulate_grad_batches=4)


@program(part="validation")
def accumulation_by_hand() -> Training:
    """Manual optimization that steps after every second batch, and divides the loss by two."""

    class ByHand(Learner):
        def __init__(self) -> None:
            super().__init__(_perceptron(), optimizer=adam(3e-3))
            self.automatic_optimization = False

        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            x, y = batch
            optimizer = self.optimizers()
            self.manual_backward(F.cross_entropy(self(x), y) / 2)
            if batch_idx % 2 == 1:
                optimizer.step()
                optimizer.zero_grad()

    images, labels = data.digits()
    train, validation = data.loaders(images / 16, labels, batch_size=32)
    module = ByHand()
    return Training(
        module, train, validation, {"max_epochs": 12}, lambda: accuracy(module, validation) > 0.9
    )


@program()
def half_precision() -> Training:
    """Mixed precision with bfloat16."""
    return _training(64, adam(2e-3), precision="bf16-mixed")


@program(part="validation")
def double_precision() -> Training:
    """All in double precision."""
    made = _training(64, adam(2e-3), precision="64-true")

    def learned() -> bool:
        x, y = made.validation.dataset[:]
        return float((made.module.eval().double()(x.double()).argmax(1) == y).float().mean()) > 0.9

    return Training(made.module, made.train, made.validation, made.settings, learned)


@program()
def validation_many_times_an_epoch() -> Training:
    """Validation four times an epoch, on a loss of much noise."""
    return _training(8, sgd(0.05), epochs=5, val_check_interval=0.25)


@program()
def stopped_by_early_stopping() -> Training:
    """Early stopping ends the run when validation gets no better."""
    return _training(32, adam(3e-3), epochs=60, callbacks=[EarlyStopping("val_loss", patience=3)])


class Stream(IterableDataset[Any]):
    """Images in a random order for ever; no length."""

    def __init__(self) -> None:
        images, labels = data.digits()
        self.x, self.y = images[:1300] / 16, labels[:1300]

    def __iter__(self) -> Iterator[Any]:
        while True:
            chosen = int(torch.randint(len(self.x), ()))
            yield self.x[chosen], self.y[chosen]


@program()
def endless_stream() -> Training:
    """A stream without a length, 300 steps of it."""
    _, validation = data.loaders(*_scaled())
    module = Learner(_perceptron(), optimizer=adam(3e-3))
    return Training(
        module,
        DataLoader(Stream(), batch_size=32),
        None,
        {"max_steps": 300},
        lambda: accuracy(module, validation) > 0.9,
    )


def _scaled() -> tuple[Tensor, Tensor]:
    images, labels = data.digits()
    return images / 16, labels


@program(family="rnn")
def sequences_of_many_lengths() -> Training:
    """Dictionaries of padded sequences, packed for an LSTM; the last batch is small."""

    class Packed(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 48, batch_first=True)
            self.fc = nn.Linear(48, 10)

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(
                batch["rows"], batch["lengths"], batch_first=True, enforce_sorted=False
            )
            _, (state, _) = self.lstm(packed)
            said = self.fc(state[-1])
            self.log("accuracy", (said.argmax(1) == batch["label"]).float().mean())
            return F.cross_entropy(said, batch["label"])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    images, labels = data.digits()
    lengths = torch.randint(6, 9, (len(labels),), generator=torch.Generator().manual_seed(3))
    samples = [
        {"rows": image[0] / 16, "lengths": length, "label": label}
        for image, length, label in zip(images, lengths, labels, strict=True)
    ]
    module = Packed()
    train: Any = DataLoader(samples, batch_size=64, shuffle=True)  # type: ignore[arg-type]
    return Training(
        module,
        train,
        None,
        {"max_epochs": 12},
        lambda: float(module.trainer.callback_metrics["accuracy"]) > 0.7,
    )


@program(family="mlp")
def recomputed_activations() -> Training:
    """Activations are computed again in the backward pass, to save memory."""

    class Recomputing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.GELU())
            self.second = nn.Sequential(nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 10))

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.second, self.first(x), use_reentrant=False)

    train, validation = data.loaders(*_scaled(), batch_size=64)
    module = Learner(Recomputing(), optimizer=adam(2e-3))
    return Training(
        module, train, validation, {"max_epochs": 12}, lambda: accuracy(module, validation) > 0.9
    )


@program(family="mlp", data="diabetes", part="validation")
def unshuffled_regression() -> Training:
    """Samples in a fixed order that is random in itself; the target scaled."""
    features, target = data.diabetes()
    train, validation = data.loaders(
        data.standardized(features),
        data.standardized(target[:, None]),
        batch_size=16,
        shuffle=False,
    )
    net = nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 1))
    module = Learner(net, F.mse_loss, sgd(0.01, momentum=0.9))
    return Training(
        module, train, validation, {"max_epochs": 15}, lambda: explained(module, validation) > 0.3
    )
