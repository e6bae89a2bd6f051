"""Healthy: networks of many kinds, each trained as is usual for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, accuracy, adam, explained, sgd
from tests.faults.program import Training, program


def _digits(batch_size: int = 64, **settings: Any) -> Any:
    images, labels = data.digits()
    return data.loaders(images / 16, labels, batch_size=batch_size, **settings)


def _text(batch_size: int = 32) -> Any:
    return data.loaders(*data.text(), batch_size=batch_size)


def _classifier(net: nn.Module, loaders: Any, epochs: int, least: float, **settings: Any) -> Any:
    train, validation = loaders
    module = Learner(net, **settings)
    return Training(
        module,
        train,
        validation,
        {"max_epochs": epochs},
        lambda: accuracy(module, validation) > least,
    )


@program(family="mlp")
def plain_perceptron() -> Training:
    """A perceptron of two hidden layers on images of digits."""
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    return _classifier(net, _digits(), 15, 0.93)


@program(family="mlp", data="wine")
def one_layer_of_tanh() -> Training:
    """A small tanh network on standardized wines."""
    features, labels = data.wine()
    net = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))
    loaders = data.loaders(data.standardized(features), labels, batch_size=16)
    return _classifier(net, loaders, 30, 0.9, optimizer=sgd(0.05, momentum=0.9))


@program(family="linear", data="breast-cancer", part="validation")
def logistic_regression() -> Training:
    """A single layer and a binary cross-entropy on standardized tumours."""
    features, labels = data.breast_cancer()
    train, validation = data.loaders(data.standardized(features), labels.float()[:, None])
    module = Learner(nn.Linear(30, 1), F.binary_cross_entropy_with_logits, sgd(0.05))
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 25},
        lambda: bool(
            ((module(validation.dataset[:][0]) > 0).float() == validation.dataset[:][1])
            .float()
            .mean()
            > 0.93
        ),
    )


@program(family="cnn")
def convolutions_with_batch_norm() -> Training:
    """Convolutions, batch norm without a bias before it, pooling."""
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return _classifier(net, _digits(), 15, 0.93, optimizer=adam(4e-3))


class ResidualBlock(nn.Module):
    """Two convolutions beside a short cut; the last scale starts at zero, as is advised."""

    def __init__(self, channels: int, norm: Any) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = norm(channels)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(inner)))


def _residual(norm: Any) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        *[ResidualBlock(16, norm) for _ in range(3)],
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


@program(family="cnn")
def residual_network_whose_branches_start_at_zero() -> Training:
    """A residual network with batch norm, the last scale of each branch zero at the start."""
    return _classifier(_residual(nn.BatchNorm2d), _digits(), 8, 0.93, optimizer=adam(4e-3))


@program(family="cnn", part="validation")
def residual_network_with_group_norm() -> Training:
    """Group norm in place of batch norm, and small batches."""
    return _classifier(_residual(lambda c: nn.GroupNorm(4, c)), _digits(16), 4, 0.93)


@program(family="cnn", data="photographs")
def photographs_with_functional_convolutions() -> Training:
    """Patches of photographs, 0 … 255 mapped to −1 … 1, the forward pass all functional."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3)
            self.fc = nn.Linear(16 * 5 * 5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv1(x))
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc(x[:, :, :5, :5].flatten(1))

    patches, labels = data.photographs()
    loaders = data.loaders(patches / 127.5 - 1, labels)
    return _classifier(Net(), loaders, 10, 0.8)


class Sequence(nn.Module):
    """The rows of an image one after another through a recurrent network."""

    def __init__(self, kind: Any, **settings: Any) -> None:
        super().__init__()
        self.cell = kind(8, 48, batch_first=True, **settings)
        self.head = nn.Linear(48 * (2 if settings.get("bidirectional") else 1), 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x.squeeze(1))
        return self.head(states[:, -1])


@program(family="rnn")
def lstm_over_rows() -> Training:
    """An LSTM reads the rows of the image."""
    return _classifier(Sequence(nn.LSTM), _digits(), 15, 0.9, optimizer=adam(3e-3))


@program(family="rnn")
def bidirectional_gru_over_rows() -> Training:
    """A bidirectional GRU reads the rows of the image."""
    net = Sequence(nn.GRU, bidirectional=True)
    return _classifier(net, _digits(), 12, 0.85, optimizer=adam(2e-3))


@program(family="rnn", part="validation")
def plain_recurrence_with_clipping() -> Training:
    """A tanh recurrence, its gradients clipped to norm 1 as is usual."""
    made = _classifier(Sequence(nn.RNN), _digits(), 15, 0.85, optimizer=adam(2e-3))
    return Training(
        made.module,
        made.train,
        made.validation,
        {**made.settings, "gradient_clip_val": 1.0},
        made.learned,
    )


class CharacterModel(LightningModule):
    """Predicts the next character at every place."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, width)
        self.body = body
        self.head = nn.Linear(width, 128)

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(self.embedding(x))
        return self.head(out[0] if isinstance(out, tuple) else out)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x).flatten(0, 1), y.flatten())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x).transpose(1, 2), y))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def _guesses_well(module: CharacterModel, validation: Any, least: float) -> bool:
    module.eval()
    x, y = validation.dataset[:]
    with torch.no_grad():
        return float((module(x).argmax(-1) == y).double().mean()) > least


@program(family="rnn", data="text")
def character_language_model() -> Training:
    """A GRU predicts the next character of source code."""
    train, validation = _text()
    module = CharacterModel(nn.GRU(64, 64, batch_first=True), 64)
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 8},
        lambda: _guesses_well(module, validation, 0.45),
    )


class CausalBlock(nn.Module):
    """A transformer's block, norm first, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Positions(nn.Module):
    """Adds a learned position to every place."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.position


@program(family="transformer", data="text")
def small_gpt() -> Training:
    """A causal transformer of two blocks predicts the next character of source code."""
    train, validation = _text()
    body = nn.Sequential(
        Positions(32, 48), CausalBlock(48, 4), CausalBlock(48, 4), nn.LayerNorm(48)
    )
    module = CharacterModel(body, 48)
    return Training(
        module,
        train,
        validation,
        {"max_epochs": 8, "gradient_clip_val": 1.0},
        lambda: _guesses_well(module, validation, 0.4),
    )


class PatchTransformer(nn.Module):
    """Rows of the image as words, torch's own encoder, a class token that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.position = nn.Parameter(torch.randn(1, 9, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embed(x.squeeze(1))
        words = torch.cat([self.token.expand(len(x), -1, -1), rows], dim=1) + self.position
        return self.head(self.encoder(words)[:, 0])


@program(family="transformer", part="validation")
def vision_transformer() -> Training:
    """A small vision transformer with torch's encoder and dropout."""
    return _classifier(PatchTransformer(), _digits(), 12, 0.85, optimizer=adam(2e-3))


@program(family="rnn", data="text", part="validation")
def masked_language_model() -> Training:
    """One in seven characters is hidden, and only these are scored."""

    class Masked(CharacterModel):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            x, _ = batch
            hidden = torch.rand(x.shape) < 0.15
            said = self(x.masked_fill(hidden, 0))
            return F.cross_entropy(said.flatten(0, 1), x.masked_fill(~hidden, -100).flatten())

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx))

    train, validation = _text()
    module = Masked(nn.GRU(64, 32, batch_first=True, bidirectional=True), 64)

    def fills_in() -> bool:
        x, _ = validation.dataset[:]
        hidden = torch.rand(x.shape) < 0.15
        with torch.no_grad():
            said = module.eval()(x.masked_fill(hidden, 0)).argmax(-1)
        return float((said == x)[hidden].double().mean()) > 0.3

    return Training(module, train, validation, {"max_epochs": 12}, fills_in)


@program(family="mlp", data="diabetes")
def regression_on_scaled_targets() -> Training:
    """A small network on patients, the target scaled to mean 0 and deviation 1."""
    features, target = data.diabetes()
    train, validation = data.loaders(
        data.standardized(features), data.standardized(target[:, None]), batch_size=32
    )
    net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    module = Learner(net, F.mse_loss, adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: explained(module, validation) > 0.3
    )


@program(family="mlp", data="wine", part="validation")
def mixture_of_experts() -> Training:
    """Four experts weighted by a softmax inside of the network."""

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(13, 4)
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3)) for _ in range(4)
            )

        def forward(self, x: Tensor) -> Tensor:
            weights = self.gate(x).softmax(-1)
            return torch.einsum(
                "be,beo->bo", weights, torch.stack([e(x) for e in self.experts], dim=1)
            )

    features, labels = data.wine()
    loaders = data.loaders(data.standardized(features), labels, batch_size=16)
    return _classifier(Mixture(), loaders, 30, 0.9, optimizer=adam(3e-3))


@program(family="cnn", data="photographs")
def segmentation_of_bright_pixels() -> Training:
    """A small U-Net says of each pixel whether it is brighter than its neighbours."""

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down1, self.down2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
            self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
            self.last, self.head = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            wide = F.relu(self.down1(x))
            deep = F.relu(self.down2(F.max_pool2d(wide, 2)))
            return self.head(F.relu(self.last(torch.cat([wide, self.up(deep)], 1))))

    patches, _ = data.photographs()
    images = patches / 255
    grey = images.mean(1, keepdim=True)
    masks = (grey > F.avg_pool2d(grey, 5, stride=1, padding=2)).float()
    train, validation = data.loaders((images - 0.5) / 0.25, masks)
    module = Learner(UNet(), F.binary_cross_entropy_with_logits, adam(3e-3))

    def outlines() -> bool:
        x, y = validation.dataset[:]
        with torch.no_grad():
            return float(((module(x) > 0).float() == y).double().mean()) > 0.85

    return Training(module, train, validation, {"max_epochs": 10}, outlines)


@program(family="mlp")
def network_behind_an_input_norm() -> Training:
    """Pixels in 0 … 16 as they are, but batch norm comes first."""
    images, labels = data.digits()
    net = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 48), nn.SiLU(), nn.Linear(48, 10)
    )
    return _classifier(net, data.loaders(images, labels, batch_size=64), 10, 0.93)


@program(family="mlp", part="validation")
def deep_network_of_selu() -> Training:
    """Eight self-normalizing layers with the initialization that belongs to them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for size in [64] * 7:
        layers += [nn.Linear(size, 64), nn.SELU()]
    layers.append(nn.Linear(64, 10))
    net = nn.Sequential(*layers)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            nn.init.zeros_(layer.bias)
    images, labels = data.digits()
    loaders = data.loaders((images - 4.88) / 6.02, labels, batch_size=64)
    return _classifier(net, loaders, 10, 0.92)
