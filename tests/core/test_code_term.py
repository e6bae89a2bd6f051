from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from lightning_plateau.core.code_term import code_term
from tests.rules.taped import points, taped


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(2, 4)


def by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    mean, logarithm = net.encoder(x).chunk(2, 1)
    code = mean + torch.randn_like(mean) * (logarithm / 2).exp()
    price = -0.5 * (1 + logarithm - mean**2 - logarithm.exp()).sum(1).mean()
    return F.mse_loss(net.decoder(code), y) + 0.5 * price


def by_distributions(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    mean, logarithm = net.encoder(x).chunk(2, 1)
    given = Normal(mean, (logarithm / 2).exp())
    price = kl_divergence(given, Normal(torch.zeros_like(mean), torch.ones_like(mean)))
    return F.mse_loss(net.decoder(given.rsample()), y) + price.sum(1).mean()


def without_a_price(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    mean, logarithm = net.encoder(x).chunk(2, 1)
    return F.mse_loss(net.decoder(mean + torch.randn_like(mean) * logarithm.exp()), y)


def noise_of_one_size(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    mean = net.encoder(x)[:, :2]
    return F.mse_loss(net.decoder(mean + 0.1 * torch.randn_like(mean)), y) + mean.abs().mean()


def test_the_price_of_a_code_is_found_however_it_is_written() -> None:
    for loss in (by_hand, by_distributions):
        [tape] = taped(loss, Autoencoder(), points(), points()).tapes
        found = code_term(tape)
        assert found is not None
        assert 0.0 < found.share < 1.0
        assert found.differing > 0.0


def test_noise_without_a_price_or_of_one_size_makes_no_code() -> None:
    for loss in (without_a_price, noise_of_one_size):
        [tape] = taped(loss, Autoencoder(), points(), points()).tapes
        assert code_term(tape) is None
