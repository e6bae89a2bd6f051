"""Healthy: more families and habits, written after the rules were."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, answers, explained, sgd
from tests.faults.program import Training, program

EPOCHS = {"max_epochs": 10}


def _digits(targets: Any = None, *, flat: bool = True, batch_size: int = 32) -> Any:
    images, labels = data.digits()
    x = images.flatten(1) / 16 if flat else images / 16
    y = labels if targets is None else targets(x, labels)
    return data.loaders(x, y, batch_size=batch_size)


def _mlp(outputs: int = 10, inputs: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, outputs))


def _classifier(module: LightningModule, pair: Any, **settings: Any) -> Training:
    train, held_out = pair
    return Training(
        module, train, held_out, {**EPOCHS, **settings}, lambda: accuracy(module, held_out) > 0.85
    )


def _bits(_: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([(labels >> bit) & 1 for bit in range(4)], dim=1).float()


@program(family="cnn", part="validation")
def smoothed_and_weighted_classes() -> Training:
    """Class weights and label smoothing in one functional loss."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said, y, weight=torch.linspace(0.5, 1.5, 10), label_smoothing=0.1)

    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
    return _classifier(Learner(net, loss), _digits(flat=False))


@program(family="rnn", part="validation")
def rows_through_an_lstm() -> Training:
    """An LSTM reads the image row by row; gradients are clipped as is usual."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 64, batch_first=True), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x.squeeze(1))[1][0][-1])

    return _classifier(
        Learner(Rows(), optimizer=adam(3e-3)), _digits(flat=False), gradient_clip_val=1.0
    )


@program(family="transformer", part="validation")
def rows_through_attention() -> Training:
    """A small pre-norm transformer with AdamW under one cycle."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rise, self.place = nn.Linear(8, 32), nn.Parameter(torch.randn(8, 32) * 0.02)
            self.body = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
            self.head = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(self.rise(x.squeeze(1)) + self.place).mean(1))

    module = Learner(
        Rows(),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3),
        scheduler=lambda one: lr_scheduler.OneCycleLR(one, 5e-3, total_steps=430),
        interval="step",
    )
    return _classifier(module, _digits(flat=False))


@program(family="vae", part="validation")
def sums_of_a_variational_autoencoder() -> Training:
    """Reconstruction and divergence are summed over pixels, averaged over images."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = _mlp(16), _mlp(64, 8)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.decoder(self.encoder(x)[:, :8]))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, _ = batch
            mean, log_var = self.encoder(x).chunk(2, dim=1)
            z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
            pixels = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
            divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()
            return (pixels + divergence) / len(x)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=2e-3)

    module, (train, held_out) = Net(), _digits(lambda x, _: x)
    return Training(module, train, None, EPOCHS, lambda: explained(module, held_out) > 0.3)


@program(family="autoencoder", part="validation")
def noise_taken_away() -> Training:
    """A denoising autoencoder ends in a sigmoid, for pixels between 0 and 1."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.binary_cross_entropy(self(x + 0.2 * torch.randn_like(x)), y)

    net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid())
    module, (train, held_out) = Net(net, F.binary_cross_entropy), _digits(lambda x, _: x)
    return Training(module, train, held_out, EPOCHS, lambda: explained(module, held_out) > 0.5)


@program(family="multi-label", part="validation")
def several_weighted_labels() -> Training:
    """Four labels an image, the positive ones weighted."""
    weight = torch.tensor([1.0, 1.2, 1.5, 4.0])
    loss = nn.BCEWithLogitsLoss(pos_weight=weight)
    module, (train, held_out) = Learner(_mlp(4), loss, adam(3e-3)), _digits(_bits)

    def learned() -> bool:
        said, y = answers(module, held_out)
        return bool(((said > 0) == (y > 0.5)).float().mean() > 0.9)

    return Training(module, train, held_out, EPOCHS, learned)


@program(family="regression", data="diabetes", part="validation")
def robust_regression_by_cosine() -> Training:
    """Huber loss on standardized targets, the rate follows a cosine to zero."""
    x, y = data.diabetes()
    pair = data.loaders(data.standardized(x), (y - y.mean()) / y.std())
    net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
    module = Learner(
        net,
        nn.HuberLoss(),
        adam(5e-3),
        lambda one: lr_scheduler.CosineAnnealingLR(one, 20),
    )
    return Training(module, *pair, {"max_epochs": 20}, lambda: explained(module, pair[1]) > 0.3)


@program(family="ranking", data="diabetes", part="validation")
def which_of_two_is_worse() -> Training:
    """Pairs of patients are ranked by a margin."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        score = said.squeeze(1)
        return F.margin_ranking_loss(
            score, score.roll(1, 0), torch.sign(y - y.roll(1, 0)), margin=0.5
        )

    x, y = data.diabetes()
    train, held_out = data.loaders(data.standardized(x), y)
    module = Learner(_mlp(1, 10), loss, adam(1e-3))

    def learned() -> bool:
        said, truth = answers(module, held_out)
        return bool(torch.corrcoef(torch.stack([said.squeeze(1), truth]))[0, 1] > 0.5)

    return Training(module, train, None, EPOCHS, learned)


@program(family="language-model", data="text", part="validation")
def spaces_are_not_asked_for() -> Training:
    """A language model leaves the spaces out of its loss by ignore_index."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.rnn = nn.Embedding(128, 32), nn.GRU(32, 96, batch_first=True)
            self.head = nn.Linear(96, 128)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(self.table(x))[0]).transpose(1, 2)

    def loss(said: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(said, y, ignore_index=32)

    module = Learner(Model(), loss, adam(5e-3))
    train, held_out = data.loaders(*data.text())
    return Training(module, train, held_out, EPOCHS, lambda: accuracy(module, held_out) > 0.3)


@program(family="contrastive", part="validation")
def pairs_near_and_far() -> Training:
    """A Siamese network with the contrastive loss over neighbours in the batch."""

    def loss(code: Tensor, y: Tensor) -> Tensor:
        apart = F.pairwise_distance(code, code.roll(1, 0))
        same = (y == y.roll(1, 0)).float()
        return (same * apart**2 + (1 - same) * F.relu(1 - apart) ** 2).mean()

    module, (train, held_out) = Learner(_mlp(8), loss, adam(3e-3)), _digits(batch_size=64)

    def learned() -> bool:
        code, y = answers(module, held_out)
        apart, same = torch.cdist(code, code), y[:, None] == y[None]
        return bool(apart[same].mean() < 0.7 * apart[~same].mean())

    return Training(module, train, None, EPOCHS, learned)


@program(family="contrastive", part="validation")
def anchors_and_others() -> Training:
    """Triplets of the batch with a margin: the loss comes to rest near zero."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            apart = torch.cdist(code := F.normalize(self(x), dim=1), code)
            same = y[:, None] == y[None]
            far = (apart * same).max(1).values
            near = apart.masked_fill(same, 9.0).min(1).values
            return F.relu(far - near + 0.3).mean()

    module, (train, held_out) = Net(_mlp(16)), _digits(batch_size=64)

    def learned() -> bool:
        code, y = answers(module, held_out)
        apart = torch.cdist(F.normalize(code, dim=1), F.normalize(code, dim=1)).fill_diagonal_(9)
        return bool((y[apart.argmin(1)] == y).float().mean() > 0.85)

    return Training(module, train, None, EPOCHS, learned)


@program(family="multi-task", part="validation")
def two_tasks_from_a_dictionary() -> Training:
    """Batches are dictionaries; class and brightness are learned with weights that learn too."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
            self.label, self.light = nn.Linear(64, 10), nn.Linear(64, 1)
            self.weights = nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.label(self.body(x))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            code = self.body(batch["image"])
            losses = torch.stack(
                [
                    F.cross_entropy(self.label(code), batch["label"]),
                    F.mse_loss(self.light(code).squeeze(1), batch["image"].mean(1)),
                ]
            )
            total = (torch.exp(-self.weights) * losses + self.weights).sum()
            return {"loss": total, "parts": losses.detach()}

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=2e-3)

    train, held_out = _digits()
    rows = [{"image": x, "label": y} for x, y in train.dataset]
    module = Net()
    loader = DataLoader(rows, 32, shuffle=True)
    return Training(module, loader, None, EPOCHS, lambda: accuracy(module, held_out) > 0.85)


@program(family="cnn", part="validation")
def half_precision_in_parts() -> Training:
    """bf16, four batches a step, gradients clipped, plain descent with momentum."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10)
    )
    return _classifier(
        Learner(net, optimizer=sgd(0.05, momentum=0.9)),
        _digits(flat=False, batch_size=16),
        precision="bf16-mixed",
        accumulate_grad_batches=4,
        gradient_clip_val=1.0,
    )


@program(family="embedding", data="text", part="validation")
def a_bag_of_characters() -> Training:
    """An embedding bag tells lines that hold a bracket from those that hold none."""
    lines, _ = data.text()
    held = (lines == ord("(")).any(1).long()
    net = nn.Sequential(nn.EmbeddingBag(128, 16, mode="sum"), nn.Linear(16, 2))
    return _classifier(Learner(net, optimizer=adam(1e-2)), data.loaders(lines, held))


@program(family="cnn", part="validation")
def convolutions_over_time() -> Training:
    """One-dimensional convolutions read the image as a series of eight values."""

    class Series(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv1d(8, 32, 3, padding=1),
                nn.ReLU(),
                nn.Conv1d(32, 32, 3, padding=1),
                nn.ReLU(),
            )
            self.head = nn.Linear(256, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x.squeeze(1)).flatten(1))

    return _classifier(Learner(Series()), _digits(flat=False))


@program(family="mlp", part="validation")
def images_mixed_with_each_other() -> Training:
    """Mixup: soft labels, and a training loss that stays far from zero."""

    class Net(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            share, target = torch.rand(()), F.one_hot(y, 10).float()
            x, target = x.lerp(x.roll(1, 0), share), target.lerp(target.roll(1, 0), share)
            return F.cross_entropy(self(x), target)

    return _classifier(Net(_mlp(), optimizer=adam(3e-3)), _digits())


@program(family="mlp", part="validation")
def hard_samples_count_more() -> Training:
    """A focal loss, written by hand."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        log_p = said.log_softmax(1).gather(1, y[:, None]).squeeze(1)
        return -((1 - log_p.exp()) ** 2 * log_p).mean()

    return _classifier(Learner(_mlp(), loss, adam(3e-3)), _digits())


@program(family="segmentation", part="validation")
def overlap_and_entropy_added() -> Training:
    """Masks learned by the sum of a Dice loss and of an entropy."""

    def loss(said: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(said)
        dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        return dice + F.binary_cross_entropy_with_logits(said, y)

    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    module = Learner(net, loss, adam(5e-3))
    train, held_out = _digits(lambda x, _: (x > 0.5).float(), flat=False)

    def learned() -> bool:
        said, y = answers(module, held_out)
        return bool(((said > 0) == (y > 0.5)).float().mean() > 0.9)

    return Training(module, train, held_out, EPOCHS, learned)


@program(family="mlp", part="validation")
def taught_by_another_network() -> Training:
    """Distillation: a frozen teacher's softened answers and the labels, added."""

    class Net(Learner):
        def __init__(self) -> None:
            super().__init__(_mlp(), optimizer=adam(3e-3))
            self.teacher = nn.Linear(64, 10).requires_grad_(False)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            said = self(x)
            taught = F.kl_div(
                (said / 2).log_softmax(1), (self.teacher(x) / 2).softmax(1), reduction="batchmean"
            )
            return F.cross_entropy(said, y) + 0.5 * taught

    return _classifier(Net(), _digits())


@program(family="gan", part="validation")
def forger_and_judge_by_hand() -> Training:
    """Two optimizers in manual optimization: a small GAN of digits, steady as such things are."""

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.forger = nn.Sequential(_mlp(64, 16), nn.Sigmoid())
            self.judge = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

        def training_step(self, batch: Any, batch_idx: int) -> None:
            real, _ = batch
            ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
            first, second = self.optimizers()
            forged = self.forger(torch.randn(len(real), 16))
            wrong = F.binary_cross_entropy_with_logits(self.judge(forged.detach()), zeros)
            right = F.binary_cross_entropy_with_logits(self.judge(real), ones)
            self._step(second, (wrong + right) / 2)
            fooled = F.binary_cross_entropy_with_logits(self.judge(forged), ones)
            self._step(first, fooled)

        def _step(self, optimizer: Any, loss: Tensor) -> None:
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

        def configure_optimizers(self) -> Any:
            return [
                torch.optim.Adam(part.parameters(), lr=5e-4, betas=(0.5, 0.999))
                for part in (self.forger, self.judge)
            ]

    module, (train, _) = Net(), _digits()
    mean = data.digits()[0].flatten(1).mean(0) / 16

    def learned() -> bool:
        with torch.no_grad():
            forged = module.forger(torch.randn(500, 16)).mean(0)
        return bool(torch.corrcoef(torch.stack([forged, mean]))[0, 1] > 0.7)

    return Training(module, train, None, EPOCHS, learned)
