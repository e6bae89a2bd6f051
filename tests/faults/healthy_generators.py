"""Healthy: models that make data, or make it again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_plateau.framework import LightningModule
from tests.faults import data
from tests.faults.learner import Learner, adam, answers
from tests.faults.program import Training, program


def _images(batch_size: int = 64) -> Any:
    images, _ = data.digits()
    pixels = images.flatten(1) / 16
    return data.loaders(pixels, pixels, batch_size=batch_size)


def _rebuilds(module: nn.Module, validation: Any, least: float) -> bool:
    said, y = answers(module, validation)
    return float(1 - (said - y).square().mean() / (y - y.mean(0)).square().mean()) > least


@program(family="autoencoder")
def autoencoder_with_sigmoid_output() -> Training:
    """Pixels in 0 … 1, squeezed through sixteen numbers, rebuilt by a sigmoid."""
    net = nn.Sequential(
        nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16), nn.Linear(16, 48), nn.ReLU(),
        nn.Linear(48, 64), nn.Sigmoid(),
    )  # fmt: skip
    train, validation = _images()
    module = Learner(net, F.mse_loss, adam(3e-3))
    return Training(
        module, train, validation, {"max_epochs": 20}, lambda: _rebuilds(module, validation, 0.6)
    )


@program(family="autoencoder", part="validation")
def parts_that_are_never_negative() -> Training:
    """A factorization into parts above zero passes by the mean image on its way, and slowly."""

    class Factors(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.code, self.parts = nn.Linear(64, 16), nn.Parameter(0.3 * torch.rand(16, 64))

        def forward(self, x: Tensor) -> Tensor:
            return F.softplus(self.code(x)) @ self.parts

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return F.mse_loss(self(batch[0]), batch[0])

        def on_train_batch_end(self, *_: Any) -> None:
            self.parts.data.clamp_(min=0.0)

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", F.mse_loss(self(batch[0]), batch[0]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    train, validation = _images(batch_size=32)
    module = Factors()
    return Training(
        module, train, validation, {"max_epochs": 25}, lambda: _rebuilds(module, validation, 0.35)
    )


@program(family="autoencoder", data="photographs", part="validation")
def convolutional_denoiser() -> Training:
    """Noise is taken from patches of photographs by a residual of convolutions."""

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x - self.last(F.leaky_relu(self.first(x)))

    patches, _ = data.photographs()
    clean = patches / 127.5 - 1
    noisy = clean + 0.4 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    train, validation = data.loaders(noisy, clean)
    module = Learner(Denoiser(), F.mse_loss, adam(3e-3))

    def cleans() -> bool:
        said, y = answers(module, validation)
        return float((said - y).square().mean()) < 0.06

    return Training(module, train, validation, {"max_epochs": 15}, cleans)


class VAE(LightningModule):
    """Encoder, decoder, and the divergence between them."""

    def __init__(self, anneal_steps: int = 0) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64))
        self.anneal_steps = anneal_steps

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x).chunk(2, dim=-1)[0]).sigmoid()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, _ = batch
        mean, log_var = self.encoder(x).chunk(2, dim=-1)
        z = mean + torch.randn_like(mean) * (log_var / 2).exp()
        rebuilt = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") / len(x)
        divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
        weight = min(1.0, self.global_step / self.anneal_steps) if self.anneal_steps else 1.0
        self.log_dict({"rebuilt": rebuilt, "divergence": divergence})
        return rebuilt + weight * divergence

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


@program(family="vae")
def variational_autoencoder() -> Training:
    """A variational autoencoder; its loss stays high because pixels are not certain."""
    train, validation = _images()
    module = VAE()
    return Training(
        module, train, None, {"max_epochs": 20}, lambda: _rebuilds(module, validation, 0.3)
    )


@program(family="vae", part="validation")
def annealed_divergence() -> Training:
    """The divergence gains weight in the first hundred steps, as is usual."""
    train, validation = _images()
    module = VAE(anneal_steps=100)
    return Training(
        module, train, None, {"max_epochs": 20}, lambda: _rebuilds(module, validation, 0.3)
    )


class GAN(LightningModule):
    """A generator and a discriminator, each with its optimizer, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(
            nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.Sigmoid()
        )
        self.discriminator = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def real_loss(self, said: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(said, torch.ones_like(said))

    def fake_loss(self, said: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(said, torch.zeros_like(said))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, _ = batch
        for_generator, for_discriminator = self.optimizers()

        made = self.generator(torch.randn(len(x), 16))
        said = self.discriminator(x), self.discriminator(made.detach())
        loss = (self.real_loss(said[0]) + self.fake_loss(said[1])) / 2
        for_discriminator.zero_grad()
        self.manual_backward(loss)
        for_discriminator.step()

        loss = self.real_loss(self.discriminator(made))
        for_generator.zero_grad()
        self.manual_backward(loss)
        for_generator.step()

    def configure_optimizers(self) -> Any:
        return (
            torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=(0.5, 0.999)),
            torch.optim.Adam(self.discriminator.parameters(), lr=5e-4, betas=(0.5, 0.999)),
        )


def _makes_digits(module: GAN, validation: Any, most: float) -> bool:
    x, _ = validation.dataset[:]
    with torch.no_grad():
        made = module.eval().generator(torch.randn(500, 16))
    return float((made.mean(0) - x.mean(0)).abs().mean()) < most


@program(family="gan")
def adversarial_training() -> Training:
    """A GAN of two optimizers in manual optimization: its losses go nowhere, and that is well."""
    train, validation = _images()
    module = GAN()
    return Training(
        module, train, None, {"max_epochs": 25}, lambda: _makes_digits(module, validation, 0.12)
    )


@program(family="gan", part="validation")
def adversarial_training_of_critics() -> Training:
    """A Wasserstein GAN with clipped weights: its losses have both signs."""

    class Wasserstein(GAN):
        def real_loss(self, said: Tensor) -> Tensor:
            return -said.mean()

        def fake_loss(self, said: Tensor) -> Tensor:
            return said.mean()

        def on_train_batch_end(self, *_: Any) -> None:
            for parameter in self.discriminator.parameters():
                parameter.data.clamp_(-0.1, 0.1)

    train, validation = _images()
    module = Wasserstein()
    return Training(
        module, train, None, {"max_epochs": 25}, lambda: _makes_digits(module, validation, 0.15)
    )


@program(family="flow", data="iris")
def normalizing_flow() -> Training:
    """Affine couplings turn flowers into a normal density; the loss is a likelihood."""

    class Flow(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(
                nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 4)) for _ in range(4)
            )
            for net in self.nets:
                nn.init.zeros_(net[-1].weight)
                nn.init.zeros_(net[-1].bias)

        def forward(self, x: Tensor) -> Tensor:
            a, b = x.chunk(2, dim=-1)
            volume = torch.zeros(len(x))
            for net in self.nets:
                shift, scale = net(a).chunk(2, dim=-1)
                scale = scale.tanh()
                a, b = b * scale.exp() + shift, a
                volume = volume + scale.sum(-1)
            normal = -0.5 * (torch.cat([a, b], -1) ** 2).sum(-1) - 3.6758
            return normal + volume

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return -self(batch[0]).mean()

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", -self(batch[0]).mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=2e-3)

    features, labels = data.iris()
    train, validation = data.loaders(data.standardized(features), labels, batch_size=16)
    module = Flow()

    def dense() -> bool:
        with torch.no_grad():
            return float(module(validation.dataset[:][0]).mean()) > -5.0

    return Training(module, train, validation, {"max_epochs": 20}, dense)


@program(family="diffusion", part="validation")
def diffusion_of_images() -> Training:
    """A small diffusion model: predicts noise at a random level, a loss that stays noisy."""

    class Diffusion(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(65, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 64)
            )

        def loss(self, x: Tensor) -> Tensor:
            level = torch.rand(len(x), 1)
            noise = torch.randn_like(x)
            seen = (1 - level).sqrt() * x + level.sqrt() * noise
            return F.mse_loss(self.net(torch.cat([seen, level], dim=1)), noise)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = self.loss(2 * batch[0] - 1)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=2e-3)

    train, validation = _images()
    module = Diffusion()

    def knows_noise() -> bool:
        with torch.no_grad():
            return float(module.loss(2 * validation.dataset[:][0] - 1)) < 0.5

    return Training(module, train, None, {"max_epochs": 30}, knows_noise)
