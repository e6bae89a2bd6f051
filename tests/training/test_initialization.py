from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_plateau.training.initialization import fresh_weight, looks_trained

SHAPES = [(64, 64), (10, 512), (256, 3, 3, 3), (64, 32, 3, 3), (1000, 16), (8, 8)]


def drawn(shape: tuple[int, ...], activation: str = "relu") -> torch.Tensor:
    return fresh_weight(shape, activation, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "draw",
    [
        nn.init.kaiming_uniform_,
        nn.init.xavier_normal_,
        nn.init.orthogonal_,
        nn.init.zeros_,
        nn.init.ones_,
        nn.init.uniform_,
        lambda tensor: nn.init.trunc_normal_(tensor, std=0.02),
        lambda tensor: nn.init.constant_(tensor, float("nan")),
    ],
)
def test_no_initialization_looks_trained(shape: tuple[int, ...], draw: object) -> None:
    weight = torch.empty(shape)
    draw(weight)  # type: ignore[operator]
    assert not looks_trained(weight)


@pytest.mark.parametrize("shape", [(64, 64), (128, 32, 3, 3)])
def test_what_has_structure_looks_trained(shape: tuple[int, ...]) -> None:
    weight = drawn(shape)
    flat = weight.flatten(1)
    direction = torch.outer(torch.randn(flat.shape[0]), torch.randn(flat.shape[1]))
    assert looks_trained(weight + 0.5 * flat.std() * direction.view(shape))


def test_variance_is_kept_through_many_layers() -> None:
    for activation, function in (("relu", torch.relu), ("", lambda x: x)):
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(64, 256, generator=generator)
        for _ in range(20):
            values = function(values @ fresh_weight((256, 256), activation, generator).T)
        assert 0.3 < float(values.square().mean()) < 3.0


def test_it_is_drawn_alike_everywhere() -> None:
    assert torch.equal(drawn((4, 4)), drawn((4, 4)))
