"""The faults of the demo, each planted in the user's code the way people write them.

One builder a fault. A builder returns what a user hands to ``Trainer.fit``; that is all the
diagnosis ever sees. The code that a fault should be found by stands beside it for the tests.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_plateau.demo.digits import BRIGHTEST, digits, loader, standardized
from lightning_plateau.demo.networks import (
    Classifier,
    Reader,
    adam,
    convolutional,
    normalized_perceptron,
    perceptron,
    sgd,
)
from lightning_plateau.framework import LightningModule

Loader = DataLoader[tuple[Tensor, ...]]
Preparation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Training:
    """What a user hands to ``Trainer.fit``, and images to judge the result by."""

    module: LightningModule
    train: Loader
    validation: Loader
    test: Loader
    epochs: int = 10


def _training(
    module: LightningModule,
    *,
    prepare: Preparation = standardized,
    train: tuple[Tensor, Tensor] | None = None,
    batch_size: int = 32,
    epochs: int = 10,
) -> Training:
    data = digits()
    images, labels = data.train if train is None else train
    return Training(
        module,
        train=loader(prepare(images), labels, batch_size=batch_size, shuffle=True),
        validation=loader(prepare(data.validation[0]), data.validation[1], batch_size=120),
        test=loader(prepare(data.test[0]), data.test[1], batch_size=120),
        epochs=epochs,
    )


def healthy() -> Training:
    """Nothing is wrong: normalized images, batch norm, Adam at 0.001."""
    return _training(Classifier(convolutional()))


def learning_rate_too_high() -> Training:
    """SGD with momentum 0.9 and a learning rate of 0.5, where 0.05 would do."""
    return _training(Classifier(convolutional(), sgd(0.5)))


def exploding_gradients() -> Training:
    """A recurrent network whose recurrent weights start too large, and no clipping."""
    return _training(Classifier(Reader(gain=2.0), sgd(0.02)), epochs=12)


def nan_batch() -> Training:
    """Each image is divided by its own standard deviation, and three images are blank: 0 / 0."""
    images, labels = digits().train
    blank = torch.tensor([100, 500, 900])

    def contrast(batch: Tensor) -> Tensor:
        mean, std = batch.mean((1, 2, 3), keepdim=True), batch.std((1, 2, 3), keepdim=True)
        return (batch - mean) / std

    damaged = images.index_fill(0, blank, 0.0)
    return _training(Classifier(convolutional()), prepare=contrast, train=(damaged, labels))


def vanishing_gradients() -> Training:
    """Twelve layers of sigmoids, one after the other."""
    return _training(Classifier(perceptron(64, 12, nn.Sigmoid), sgd(0.1)))


def dead_units() -> Training:
    """The bias meant for the rare class of the last layer, −4.6, is set in every layer."""
    network = perceptron(64, 3)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.constant_(layer.bias, -4.6)
    return _training(Classifier(network))


def softmax_before_cross_entropy() -> Training:
    """The network ends in a softmax, and cross entropy applies it again."""
    network = nn.Sequential(*perceptron(64, 2), nn.Softmax(dim=1))
    return _training(Classifier(network, sgd(0.01)))


def input_not_normalized() -> Training:
    """Images of 0 … 255 as they come from the file, into a network without normalization."""
    return _training(
        Classifier(perceptron(64, 2), sgd(0.01)), prepare=lambda images: images / BRIGHTEST * 255
    )


def overfitting() -> Training:
    """Sixty images, and a network of half a million parameters without regularization."""
    images, labels = digits().train
    return _training(Classifier(perceptron(512, 3)), train=(images[:60], labels[:60]), epochs=100)


def tiny_batch_norm() -> Training:
    """Batches of two, and batch norm takes its statistics from them."""
    return _training(Classifier(normalized_perceptron(), sgd(0.01)), batch_size=2, epochs=1)


def shuffled_labels() -> Training:
    """Images and labels were sorted apart: no label belongs to its image."""
    images, labels = digits().train
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
    return _training(Classifier(convolutional(), adam), train=(images, labels[order]), epochs=12)


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        build: Makes the training; seed the generators first.
        expected: Codes of which the diagnosis should rank one first; empty for none. For tests:
            the diagnosis never sees them.
    """

    build: Callable[[], Training]
    expected: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The fault in kebab case."""
        return self.build.__name__.replace("_", "-")

    @property
    def story(self) -> str:
        """What is wrong, in a sentence."""
        return (self.build.__doc__ or "").strip()


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(healthy),
        Fault(learning_rate_too_high, ("LP406",)),
        Fault(exploding_gradients, ("LP301",)),
        Fault(nan_batch, ("LP102",)),
        Fault(vanishing_gradients, ("LP302",)),
        Fault(dead_units, ("LP501",)),
        Fault(softmax_before_cross_entropy, ("LP701",)),
        Fault(input_not_normalized, ("LP101",)),
        Fault(overfitting, ("LP801", "LP107")),
        Fault(tiny_batch_norm, ("LP601",)),
        Fault(shuffled_labels, ("LP106",)),
    )
}
"""Every fault by its name."""


def find_fault(name: str) -> Fault:
    """Return the fault of that name.

    Raises:
        ValueError: If there is none; the message names them all and the nearest.
    """
    if name not in FAULTS:
        near = difflib.get_close_matches(name, FAULTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"fault must be one of {', '.join(FAULTS)}, but received {name!r}{hint}")
    return FAULTS[name]
