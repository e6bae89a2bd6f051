"""Sick: more steps, networks and data gone wrong, written after the rules were."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, adam, sgd
from tests.faults.program import Training, program

EPOCHS = {"max_epochs": 8}


def _digits(*, flat: bool = True) -> Any:
    images, labels = data.digits()
    return data.loaders((images.flatten(1) if flat else images) / 16, labels)


def _mlp(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), *middle, nn.Linear(64, 10))


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.rise = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=batch_first)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.rise(x.squeeze(1))).mean(1))


class ByHand(LightningModule):
    """What programs that step by themselves start from."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = _mlp()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@program("LP308", part="validation")
def gradients_pile_up() -> Training:
    """Manual optimization that never empties the gradients."""

    class Net(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            self.manual_backward(F.cross_entropy(self.net(x), y))
            self.optimizers().step()

    return Training(Net(), _digits()[0], None, EPOCHS)


@program("LP412", "LP304", part="validation")
def gradients_emptied_before_the_step() -> Training:
    """Manual optimization empties the gradients between the backward pass and the step."""

    class Net(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            optimizer = self.optimizers()
            self.manual_backward(F.cross_entropy(self.net(x), y))
            optimizer.zero_grad()
            optimizer.step()

    return Training(Net(), _digits()[0], None, EPOCHS)


@program("LP406", family="transformer", part="validation")
def a_rate_for_another_optimizer() -> Training:
    """Adam with the rate 0.1 that was copied from plain descent, on a transformer."""
    return Training(Learner(Rows(), optimizer=adam(0.1)), *_digits(flat=False), EPOCHS)


@program("LP407", family="transformer", part="validation")
def a_rate_for_fine_tuning() -> Training:
    """A network from scratch with the rate 1e-6 of fine-tuning."""
    return Training(Learner(Rows(), optimizer=adam(1e-6)), *_digits(flat=False), EPOCHS)


@program("LP409", "LP408", family="cnn", part="validation")
def decay_by_epochs_stepped_by_batches() -> Training:
    """StepLR of ten epochs is stepped on each batch."""
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    module = Learner(
        net,
        optimizer=sgd(0.05),
        scheduler=lambda one: lr_scheduler.StepLR(one, 10, 0.1),
        interval="step",
    )
    return Training(module, *_digits(flat=False), EPOCHS)


@program("LP409", "LP408", part="validation")
def halved_by_every_batch() -> Training:
    """ExponentialLR of 0.8, meant for epochs, on each batch."""
    module = Learner(
        _mlp(), scheduler=lambda one: lr_scheduler.ExponentialLR(one, 0.8), interval="step"
    )
    return Training(module, *_digits(), EPOCHS)


@program("LP413", part="validation")
def penalty_of_one() -> Training:
    """Adam with weight_decay=1: the penalty is all that it follows."""
    return Training(Learner(_mlp(), optimizer=adam(1e-3, weight_decay=1.0)), *_digits(), EPOCHS)


@program("LP307", part="validation")
def clipped_far_below_its_size() -> Training:
    """Plain descent with gradients clipped to a norm of 1e-4."""
    settings = {**EPOCHS, "gradient_clip_val": 1e-4}
    return Training(Learner(_mlp(), optimizer=sgd(0.1)), *_digits(), settings)


@program("LP411", family="cnn", part="validation")
def frozen_with_its_head() -> Training:
    """The untrained body was frozen, and with it all of the head but its bias."""
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    for parameter in net.parameters():
        parameter.requires_grad = False
    net[-1].bias.requires_grad = True
    return Training(Learner(net), *_digits(flat=False), EPOCHS)


@program("LP302", accepted=("LP502", "LP805", "LP504"), part="validation")
def twelve_sigmoids() -> Training:
    """A deep network of sigmoids with default weights."""
    layers = [layer for _ in range(12) for layer in (nn.Linear(64, 64), nn.Sigmoid())]
    return Training(Learner(nn.Sequential(*layers, nn.Linear(64, 10))), *_digits(), EPOCHS)


@program("LP505", "LP504", part="validation")
def weights_all_alike() -> Training:
    """Every weight begins at the same constant."""
    net = _mlp(nn.Linear(64, 64), nn.ReLU())
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.01)
    return Training(Learner(net), *_digits(), EPOCHS)


@program("LP504", "LP502")
def weights_far_too_large() -> Training:
    """normal_ was called without a standard deviation, and tanh saturates."""
    net = nn.Sequential(
        nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 10)
    )
    for layer in (net[0], net[2], net[4]):
        nn.init.normal_(layer.weight)
    return Training(Learner(net), *_digits(), EPOCHS)


@program("LP708", family="transformer")
def batch_read_as_time() -> Training:
    """batch_first was forgotten: the rows of different images attend to each other."""
    return Training(Learner(Rows(batch_first=False)), *_digits(flat=False), EPOCHS)


@program("LP708", "LP701")
def likelihood_over_the_batch() -> Training:
    """The softmax runs over the samples in place of the classes, before the likelihood."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.nll_loss(torch.log_softmax(said, dim=0), y)

    return Training(Learner(_mlp(), loss), *_digits(), EPOCHS)


@program("LP501", accepted=("LP504",), part="validation")
def units_that_never_wake() -> Training:
    """Biases of -10 keep every ReLU at zero."""
    net = _mlp()
    nn.init.constant_(net[0].bias, -10.0)
    return Training(Learner(net), *_digits(), EPOCHS)


@program("LP806", part="validation")
def almost_all_dropped() -> Training:
    """Dropout was given the share to keep, 0.95, where it takes the share to drop."""
    net = _mlp(nn.Dropout(0.95), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.95))
    return Training(Learner(net), *_digits(), EPOCHS)


@program("LP902", accepted=("LP603",), family="cnn")
def evaluated_while_training() -> Training:
    """A hook of the user's calls eval() before each epoch and nobody calls train()."""

    class Net(Learner):
        def on_train_epoch_start(self) -> None:
            self.eval()

    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )
    return Training(Net(net), *_digits(flat=False), EPOCHS)


@program("LP101", data="wine", part="validation")
def raw_columns_with_plain_descent() -> Training:
    """Columns between 0.1 and 1,680 go in as they are."""
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    return Training(
        Learner(net, optimizer=sgd(0.01)), *data.loaders(*data.wine()), {"max_epochs": 40}
    )


@program("LP109", part="validation")
def folder_after_folder() -> Training:
    """The files were listed folder by folder, and shuffle=True was forgotten."""
    images, labels = data.digits()
    order = labels[:1400].argsort(stable=True)
    x, y = images.flatten(1)[:1400][order] / 16, labels[:1400][order]
    train, _ = data.loaders(x, y, shuffle=False, held_out=0.0)
    held_out, _ = data.loaders(images.flatten(1)[1400:] / 16, labels[1400:], held_out=0.0)
    return Training(Learner(_mlp(), optimizer=sgd(0.1)), train, held_out, EPOCHS)


@program("LP102", accepted=("LP201", "LP202", "LP203", "LP204"), data="wine", part="validation")
def logarithm_of_nothing() -> Training:
    """Columns went through a logarithm, and one of them holds zeros."""
    x, y = data.wine()
    x = torch.log(x - x.min(0).values)
    net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    return Training(Learner(net), *data.loaders(x, y), {"max_epochs": 20})


@program("LP106", "LP807", family="cnn", part="validation")
def labels_in_another_order() -> Training:
    """Images and labels were shuffled apart from each other."""
    images, labels = data.digits()
    apart = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    return Training(Learner(net), *data.loaders(images / 16, apart), EPOCHS)
