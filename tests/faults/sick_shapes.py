"""Sick: tensors of the right shape whose dimensions mean something else, and what comes of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, adam
from tests.faults.networks import convolutions, perceptron
from tests.faults.program import Training, program


def _digits(*, flat: bool = True, batch_size: int = 32) -> Any:
    images, labels = data.digits()
    x = images.flatten(1) if flat else images
    return data.loaders(x / 16, labels, batch_size=batch_size)


@program("LP708", family="rnn", part="validation")
def states_viewed_as_samples() -> Training:
    """States ``[T, B, H]`` are flattened with ``view(B, -1)``, and not transposed before."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(8, 16), nn.Linear(128, 10)

        def forward(self, x: Tensor) -> Tensor:
            states, _ = self.rnn(x.view(-1, 8, 8).permute(1, 0, 2))
            return self.head(states.contiguous().view(len(x), -1))

    return Training(Learner(Net()), *_digits(), {"max_epochs": 6})


@program("LP708", accepted=("LP802",), part="validation")
def pixels_viewed_and_turned() -> Training:
    """``x.view(64, -1).t()`` has the right shape, and a pixel of many samples in each row."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = perceptron(64, 10, 64)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.view(64, -1).t())

    return Training(Learner(Net()), *_digits(), {"max_epochs": 6})


@program("LP711", family="rnn", data="tokens", part="validation")
def classes_of_each_step_viewed() -> Training:
    """Scores ``[B, T, C]`` become ``[B, C, T]``, as the loss wants them, by ``view``."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = (
                nn.GRU(12, 32, batch_first=True, bidirectional=True),
                nn.Linear(64, 5),
            )

        def forward(self, x: Tensor) -> Tensor:
            states, _ = self.rnn(F.one_hot(x, 12).float())
            scores = self.head(states)
            return scores.view(len(x), 5, 10)

    tokens = torch.randint(0, 12, (1000, 10))
    sums = (tokens + tokens.roll(1, 1)) % 5
    return Training(
        Learner(Net(), optimizer=adam(5e-3)), *data.loaders(tokens, sums), {"max_epochs": 10}
    )


@program("LP708", accepted=("LP303",), family="transformer", part="validation")
def attention_normalized_over_the_batch() -> Training:
    """Hand-written attention: the softmax runs over dimension 0."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
            self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x.view(-1, 8, 8))
            scores = self.query(h) @ self.key(h).transpose(1, 2) / 32**0.5
            return self.head((torch.softmax(scores, dim=0) @ self.value(h)).mean(1))

    return Training(Learner(Net()), *_digits(), {"max_epochs": 8})


@program("LP602", family="transformer", data="text")
def mask_that_hides_the_words() -> Training:
    """The padding mask is True where the words are: a sentence without padding has nothing left."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 16, padding_idx=0)
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
            self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(self.embed(x), src_key_padding_mask=x != 0).mean(1))

    words = torch.randint(1, 20, (600, 12))
    there = torch.arange(12) < torch.randint(4, 13, (600, 1))
    labels = ((words == 7) & there).any(1).long()
    train, validation = data.loaders(words * there, labels)
    return Training(Learner(Net()), train, validation, {"max_epochs": 8})


class _ByHand(LightningModule):
    """Steps are made by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = convolutions(1, 10, 8)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.manual_backward(loss)
        self.step(self.optimizers())
        self.log("train_loss", loss)

    def step(self, optimizer: Any) -> None:
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        return adam()(self.parameters())


@program("LP304", accepted=("LP412",), family="cnn", part="validation")
def cleared_before_the_step() -> Training:
    """``zero_grad`` was moved below ``manual_backward``: each step is made of nothing."""

    class Module(_ByHand):
        def step(self, optimizer: Any) -> None:
            optimizer.zero_grad()
            optimizer.step()

    return Training(Module(), _digits(flat=False)[0], None, {"max_epochs": 4})


@program("LP304", accepted=("LP412",), family="cnn")
def stepped_before_backward() -> Training:
    """zero_grad, step and only then backward: what backward makes is cleared in the next step."""

    class Module(_ByHand):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
            loss, optimizer = F.cross_entropy(self.net(batch[0]), batch[1]), self.optimizers()
            optimizer.zero_grad()
            optimizer.step()
            self.manual_backward(loss)
            self.log("train_loss", loss)

    return Training(Module(), _digits(flat=False)[0], None, {"max_epochs": 4})


@program("LP410", family="cnn")
def head_replaced_after_the_optimizer() -> Training:
    """The optimizer is made in the constructor, and the last layer replaced after it."""

    class Module(Learner):
        def __init__(self) -> None:
            super().__init__(convolutions(1, 100, 8))
            self.made = torch.optim.Adam(self.net.parameters(), 1e-3)
            self.net[-1] = nn.Linear(self.net[-1].in_features, 10)

        def configure_optimizers(self) -> Any:
            return self.made

    return Training(Module(), *_digits(flat=False), {"max_epochs": 5})
