"""Fresh weights: how large they have to be, and whether weights have been trained already."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

GAINS = {
    "relu": math.sqrt(2.0),
    "relu6": math.sqrt(2.0),
    "leaky_relu": math.sqrt(2.0),
    "elu": math.sqrt(2.0),
    "celu": math.sqrt(2.0),
    "gelu": math.sqrt(2.0),
    "silu": math.sqrt(2.0),
    "mish": math.sqrt(2.0),
    "hardswish": math.sqrt(2.0),
    "softplus": math.sqrt(2.0),
    "tanh": 5.0 / 3.0,
    "hardtanh": 5.0 / 3.0,
    "softsign": 5.0 / 3.0,
    "sigmoid": 4.0,
    "hardsigmoid": 6.0,
}
"""What the standard deviation 1/√fan_in is multiplied by, so that an activation keeps the variance.

For functions that saturate it is one over their slope at zero, that of tanh as is customary.
"""
TRAINED = 1.5
ITERATIONS = 12
LEAST_SIDE = 8


def fresh_weight(shape: Sequence[int], activation: str, generator: torch.Generator) -> Tensor:
    """Return a fresh weight ``[out, in, ...]`` on the CPU, normal, scaled by its fan-in.

    Args:
        shape: Shape of the weight.
        activation: Name of the activation that it leads to; ``""`` for none.
        generator: What the values are drawn from: the same on every rank.

    Example:
        >>> weight = fresh_weight((256, 400), "relu", torch.Generator().manual_seed(0))
        >>> round(float(weight.std()) * 20 / 2**0.5, 1)
        1.0
    """
    fan_in = math.prod(shape[1:]) or 1
    deviation = GAINS.get(activation, 1.0) / math.sqrt(fan_in)
    return deviation * torch.randn(tuple(shape), generator=generator)


def fresh_recurrence(module: nn.RNNBase, generator: torch.Generator) -> dict[str, Tensor]:
    """Return fresh parameters of a recurrent layer by name, on the CPU.

    What is multiplied by itself at every step of the sequence is orthogonal, each gate for itself:
    it lengthens no vector and shortens none. Inputs get weights scaled by their number, and biases
    are zero.

    Example:
        >>> weight = fresh_recurrence(nn.GRU(4, 8), torch.Generator().manual_seed(0))
        >>> block = weight["weight_hh_l0"][:8]
        >>> bool(torch.allclose(block @ block.T, torch.eye(8), atol=1e-5))
        True
    """
    values = {}
    for name, parameter in module.named_parameters(recurse=False):
        rows, columns = parameter.shape[0], parameter.shape[-1]
        if parameter.ndim < 2:
            values[name] = torch.zeros(parameter.shape)
        elif name.startswith("weight_hh"):
            blocks = torch.randn(rows // columns or 1, columns, columns, generator=generator)
            values[name] = torch.linalg.qr(blocks)[0].flatten(0, 1)[:rows].contiguous()
        else:
            values[name] = fresh_weight((rows, columns), "", generator)
    return values


def looks_trained(weight: Tensor) -> bool:
    """Whether a weight has structure that no random initialization has.

    The largest singular value of a random matrix ``[m, n]`` of standard deviation σ is about
    σ·(√m + √n), of an orthogonal one less; training makes some much larger. Small matrices do not
    tell.

    Example:
        >>> random = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        >>> looks_trained(random), looks_trained(random + 3 * random[:1] * random[:, :1])
        (False, True)
    """
    with torch.no_grad():
        matrix = weight.detach().flatten(1).double().cpu()
        matrix = matrix - matrix.mean()
        rows, columns = matrix.shape
        scale = float(matrix.square().mean().sqrt())
        if min(rows, columns) < LEAST_SIDE or not 0.0 < scale < float("inf"):
            return False
        vector = torch.ones(columns, dtype=torch.float64) + torch.arange(columns) / columns
        for _ in range(ITERATIONS):
            vector = matrix.T @ (matrix @ vector)
            vector = vector / vector.norm().clamp_min(1e-300)
        largest = float((matrix @ vector).norm())
    return largest > TRAINED * scale * (math.sqrt(rows) + math.sqrt(columns))
