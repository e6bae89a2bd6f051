from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lightning_plateau.training.standardizer import Standardizer, moments

LAYERS = {
    "linear": (nn.Linear(5, 3), (7, 5), True),
    "sequence": (nn.Linear(5, 3), (7, 4, 5), True),
    "without bias": (nn.Linear(5, 3, bias=False), (7, 5), False),
    "conv": (nn.Conv2d(5, 3, 3), (2, 5, 8, 8), True),
    "conv padded with zeros": (nn.Conv2d(5, 3, 3, padding=1), (2, 5, 8, 8), False),
    "conv padded by reflection": (
        nn.Conv2d(5, 3, 3, padding=1, padding_mode="reflect"),
        (2, 5, 8, 8),
        True,
    ),
    "conv1d": (nn.Conv1d(5, 3, 3), (2, 5, 9), True),
}


def standardized(name: str) -> tuple[Any, torch.Tensor, Standardizer]:
    layer, shape, shifts = copy.deepcopy(LAYERS[name])
    layer.reset_parameters()
    mean = torch.tensor([100.0, -3.0, 0.0, 2.0, 50.0]) * shifts
    scale = torch.tensor([10.0, 0.1, 1.0, 300.0, 2.0])
    along = (1, 5, *[1] * (len(shape) - 2)) if name.startswith("conv") else (5,)
    inputs = torch.randn(shape) * scale.view(along) + mean.view(along)
    return layer, inputs, Standardizer(layer, mean, scale)


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_saved_computes_the_same_without_the_hook(name: str) -> None:
    layer, inputs, standardizer = standardized(name)
    expected, raw = layer(inputs), layer.weight.detach().clone()
    saved = {key: value.clone() for key, value in layer.state_dict().items()}
    assert torch.equal(layer.weight, raw)
    standardizer.close()
    layer.load_state_dict(saved)
    assert torch.allclose(layer(inputs), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_folded_into_the_weights_at_the_end(name: str) -> None:
    layer, inputs, standardizer = standardized(name)
    expected = layer(inputs)
    standardizer.finish()
    assert not layer._forward_pre_hooks
    assert not layer._state_dict_hooks
    assert torch.allclose(layer(inputs), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_loading_a_state_takes_it_apart_again(name: str) -> None:
    layer, inputs, _ = standardized(name)
    expected = layer(inputs)
    layer.load_state_dict(layer.state_dict())
    assert torch.allclose(layer(inputs), expected, rtol=1e-3, atol=1e-3)


def test_closing_leaves_no_trace() -> None:
    layer, inputs, standardizer = standardized("linear")
    raw = layer.weight.detach().clone()
    standardizer.close()
    assert torch.equal(layer.weight, raw)
    assert torch.equal(layer(inputs), nn.functional.linear(inputs, layer.weight, layer.bias))


def test_rare_values_are_not_blown_up() -> None:
    values = torch.zeros(1000, 2)
    values[0, 0] = 1.0
    values[:, 1] = torch.randn(1000)
    mean, scale = moments(values)
    assert float(((values.double() - mean) / scale).abs().max()) <= 4.0
