"""Healthy: fine-tuning, frozen parts, adapters, averaged copies and teachers."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from lightning.pytorch.callbacks import BaseFinetuning, StochasticWeightAveraging
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, sgd
from tests.faults.program import Training, program


def _digits(lower: bool = False) -> Any:
    """Return loaders of all digits, or of those below five."""
    images, labels = data.digits()
    kept = labels < 5 if lower else labels >= 0
    return data.loaders(images[kept] / 16, labels[kept], batch_size=32)


def _backbone() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )


@cache
def _learned_weights() -> dict[str, Tensor]:
    """Return the weights of a backbone that was trained on the digits below five."""
    state = torch.get_rng_state()
    torch.manual_seed(7)
    net = nn.Sequential(_backbone(), nn.Linear(128, 5))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(3):
        for x, y in _digits(lower=True)[0]:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    torch.set_rng_state(state)
    return net[0].state_dict()


def _pretrained() -> nn.Sequential:
    backbone = _backbone()
    backbone.load_state_dict(_learned_weights())
    return backbone


class FineTuner(LightningModule):
    """A pretrained backbone and a new head.

    Args:
        frozen: Whether only the head is trained, the backbone in evaluation mode.
    """

    def __init__(self, *, frozen: bool = False) -> None:
        super().__init__()
        self.backbone = _pretrained()
        self.head = nn.Linear(128, 10)
        self.frozen = frozen
        if frozen:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=2e-3)


def _tuned(module: Any, epochs: int = 8, least: float = 0.9, **settings: Any) -> Training:
    train, validation = _digits()
    return Training(
        module,
        train,
        validation,
        {"max_epochs": epochs, **settings},
        lambda: accuracy(module, validation) > least,
    )


@program(family="cnn")
def head_on_a_frozen_backbone() -> Training:
    """Only the head is trained; the backbone is frozen, its batch norm in evaluation mode."""
    return _tuned(FineTuner(frozen=True), 12)


@program(family="cnn")
def frozen_batch_norm_statistics() -> Training:
    """All weights are fine-tuned, but batch norm keeps its pretrained statistics."""

    class Tuner(FineTuner):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            for layer in self.backbone.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
            return self

    return _tuned(Tuner())


@program(family="cnn", part="validation")
def small_rate_for_the_backbone() -> Training:
    """Two groups: a small learning rate for the backbone, a large one for the head."""

    class Tuner(FineTuner):
        def configure_optimizers(self) -> Any:
            groups = [
                {"params": self.backbone.parameters(), "lr": 1e-4},
                {"params": self.head.parameters(), "lr": 3e-3},
            ]
            return torch.optim.AdamW(groups)

    return _tuned(Tuner(), 10)


@program(family="cnn", part="validation")
def gradual_unfreezing() -> Training:
    """Lightning's fine-tuning callback thaws the backbone after three epochs."""

    class Thaw(BaseFinetuning):
        def freeze_before_training(self, module: Any) -> None:
            self.freeze(module.backbone)

        def finetune_function(self, module: Any, epoch: int, optimizer: Any) -> None:
            if epoch == 3:
                self.unfreeze_and_add_param_group(module.backbone, optimizer, initial_denom_lr=10)

    return _tuned(FineTuner(), 8, callbacks=[Thaw()])


class LowRank(nn.Module):
    """A frozen layer beside a product of two thin ones, the second of which starts at zero."""

    def __init__(self, layer: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(F.linear(x, self.down), self.up)


@cache
def _learned_perceptron() -> dict[str, Tensor]:
    """Return the weights of a perceptron that was trained on digits turned upside down."""
    state = torch.get_rng_state()
    torch.manual_seed(9)
    net = _perceptron()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(6):
        for x, y in _digits()[0]:
            optimizer.zero_grad()
            F.cross_entropy(net(x.flip(2)), y).backward()
            optimizer.step()
    torch.set_rng_state(state)
    return net.state_dict()


def _perceptron() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


@program(family="lora")
def low_rank_adapters() -> Training:
    """A frozen network learns a new task through low-rank adapters."""
    net = _perceptron()
    net.load_state_dict(_learned_perceptron())
    for place in (1, 3, 5):
        net[place] = LowRank(net[place])
    return _tuned(Learner(net, optimizer=adam(5e-3)), 15)


@program(family="mlp", part="validation")
def fine_tuning_of_what_is_nearly_right() -> Training:
    """A trained network is trained on at a small rate: the loss starts low and falls a little."""
    net = _perceptron()
    net.load_state_dict(_learned_perceptron())
    images, labels = data.digits()
    train, validation = data.loaders(images.flip(2) / 16, labels, batch_size=32)
    module = Learner(net, optimizer=adam(2e-4))
    return Training(
        module, train, validation, {"max_epochs": 8}, lambda: accuracy(module, validation) > 0.9
    )


@program(family="mlp")
def bias_only_tuning() -> Training:
    """All weights are frozen but biases and the last layer."""
    net = _perceptron()
    net.load_state_dict(_learned_perceptron())
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or name.startswith("5"))
    return _tuned(Learner(net, optimizer=adam(1e-2)), 15, 0.8)


@program(family="mlp")
def distillation_from_a_teacher() -> Training:
    """A small network learns what a large one says of each image."""

    class Student(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = _perceptron()
            self.teacher.load_state_dict(_learned_perceptron())
            self.teacher.requires_grad_(False)
            self.student = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.student(x)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x = batch[0].flip(2)
            with torch.no_grad():
                wanted = (self.teacher(x) / 2).softmax(-1)
            said = (self(x) / 2).log_softmax(-1)
            return 4 * F.kl_div(said, wanted, reduction="batchmean")

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=3e-3)

    images, labels = data.digits()
    train, validation = data.loaders(images / 16, labels, batch_size=32)
    module = Student()

    def agrees() -> bool:
        x, y = validation.dataset[:]
        return float((module(x.flip(2)).argmax(1) == y).double().mean()) > 0.85

    return Training(module, train, None, {"max_epochs": 12}, agrees)


@program(family="mlp")
def exponential_average_beside_us() -> Training:
    """A moving average of the weights is kept in the module, and validated."""

    class Averaged(Learner):
        def __init__(self) -> None:
            super().__init__(_perceptron(), optimizer=adam(2e-3))
            self.average = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(0.98))
            self.average.requires_grad_(False)

        def on_train_batch_end(self, *_: Any) -> None:
            self.average.update_parameters(self.net)

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            x, y = batch
            self.log("val_loss", F.cross_entropy(self.average(x), y))

    return _tuned(Averaged(), 8)


@program(family="mlp", part="validation")
def stochastic_weight_averaging() -> Training:
    """Lightning's own averaging of weights, with its own learning rate, beside us."""
    averaging = StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=0.6, annealing_epochs=2)
    module = Learner(_perceptron(), optimizer=sgd(0.1, momentum=0.9))
    return _tuned(module, 15, callbacks=[averaging])


@program(family="siamese")
def learning_from_ones_own_average() -> Training:
    """Two views, a predictor, and a slow copy as the teacher: BYOL, without labels."""

    class BYOL(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.online = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 32)
            )
            self.predictor = nn.Sequential(
                nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32)
            )
            self.target = copy.deepcopy(self.online).requires_grad_(False)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, _ = batch
            a, b = (x + 0.15 * torch.randn_like(x) for _ in range(2))
            with torch.no_grad():
                wanted = self.target(b)
            said = self.predictor(self.online(a))
            return 2 - 2 * F.cosine_similarity(said, wanted, dim=-1).mean()

        def on_train_batch_end(self, *_: Any) -> None:
            with torch.no_grad():
                for slow, fast in zip(
                    self.target.parameters(), self.online.parameters(), strict=True
                ):
                    slow.lerp_(fast, 0.02)

        def configure_optimizers(self) -> Any:
            trained = [*self.online.parameters(), *self.predictor.parameters()]
            return torch.optim.Adam(trained, lr=1e-3)

    images, labels = data.digits()
    train, validation = data.loaders(images / 16, labels, batch_size=64)
    module = BYOL()

    def groups_digits() -> bool:
        x, y = validation.dataset[:]
        with torch.no_grad():
            z = F.normalize(module.eval().online(x), dim=-1)
        return float((y[torch.cdist(z, z).fill_diagonal_(9).argmin(1)] == y).double().mean()) > 0.85

    return Training(module, train, None, {"max_epochs": 15}, groups_digits)
