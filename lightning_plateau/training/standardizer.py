"""Standardized inputs of a layer, folded into its weights wherever the weights are written down.

While a network trains, a hook standardizes what enters the layer. In a state dict, and so in every
checkpoint, and at the end of training, mean and scale are part of the weights instead: W/σ in place
of W and b − Wμ/σ in place of b. So what is saved computes the same without the hook, and loads
anywhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class Standardizer:
    """Standardizes what enters a layer, until it is closed or finished.

    Args:
        layer: A linear or convolutional layer.
        mean: What is subtracted from each feature or channel, ``[in]``; zero where a shift cannot
            be folded: without a bias, and in front of padding with zeros.
        scale: What each is divided by then, ``[in]``, positive.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> standardizer = Standardizer(layer, torch.tensor([5.0]), torch.tensor([2.0]))
        >>> trained = layer(torch.tensor([[9.0]]))
        >>> standardizer.finish()
        >>> torch.allclose(layer(torch.tensor([[9.0]])), trained)
        True
    """

    def __init__(self, layer: Layer, mean: Tensor, scale: Tensor) -> None:
        self._layer = layer
        self._mean = mean.to(layer.weight.device, torch.float64)
        self._scale = scale.to(layer.weight.device, torch.float64)
        shape = (-1, *[1] * (layer.weight.dim() - 2))
        self._shift_in = self._mean.view(shape).to(layer.weight.dtype)
        self._scale_in = self._scale.view(shape).to(layer.weight.dtype)
        self._hooks = [
            layer.register_forward_pre_hook(self._standardize),
            layer._register_state_dict_hook(self._fold_state),  # type: ignore[no-untyped-call]
            layer._register_load_state_dict_pre_hook(self._unfold_state),  # type: ignore[no-untyped-call]
        ]

    def _standardize(self, _: nn.Module, inputs: Any) -> Any:
        values = (
            inputs[0].to(self._shift_in.dtype) if not inputs[0].is_floating_point() else inputs[0]
        )
        shift, scale = self._shift_in.to(values.dtype), self._scale_in.to(values.dtype)
        return ((values - shift) / scale, *inputs[1:])

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias that do without the hook what these do with it."""
        divided = weight.double() / self._scale.to(weight.device).view(self._along(weight))
        if bias is None:
            return divided.to(weight.dtype), None
        moved = bias.double() - self._moved(divided)
        return divided.to(weight.dtype), moved.to(bias.dtype)

    def unfolded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the weight and bias that ``folded`` was given, up to rounding."""
        multiplied = weight.double() * self._scale.to(weight.device).view(self._along(weight))
        if bias is None:
            return multiplied.to(weight.dtype), None
        moved = bias.double() + self._moved(weight.double())
        return multiplied.to(weight.dtype), moved.to(bias.dtype)

    def _along(self, weight: Tensor) -> tuple[int, ...]:
        return (1, -1, *[1] * (weight.dim() - 2))

    def _moved(self, weight: Tensor) -> Tensor:
        shift = self._mean.to(weight.device).view(self._along(weight))
        return (weight * shift).flatten(1).sum(dim=1)

    def _fold_state(self, _: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
        self._replace(state, prefix, self.folded)

    def _unfold_state(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        self._replace(state, prefix, self.unfolded)

    def _replace(self, state: dict[str, Any], prefix: str, by: Any) -> None:
        weight, bias = state.get(f"{prefix}weight"), state.get(f"{prefix}bias")
        if not isinstance(weight, Tensor):
            return
        with torch.no_grad():
            weight, bias = by(weight.detach(), bias)
        state[f"{prefix}weight"] = weight
        if bias is not None:
            state[f"{prefix}bias"] = bias

    def unfold(self) -> None:
        """Undo in the layer what a checkpoint has folded into its weights."""
        self._write(self.unfolded)

    def _write(self, by: Any) -> None:
        layer = self._layer
        with torch.no_grad():
            weight, bias = by(layer.weight.detach(), layer.bias)
            layer.weight.copy_(weight)
            if layer.bias is not None:
                layer.bias.copy_(bias)

    def close(self) -> None:
        """Let what enters the layer pass as it is again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def finish(self) -> None:
        """Fold mean and scale into the weights for good."""
        self._write(self.folded)
        self.close()


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and scale of each feature of ``values`` ``[n, features]``, float64.

    The scale is the standard deviation, and at least a quarter of the largest distance from the
    mean: a pixel that is black in almost every sample is not blown up. A feature that is constant
    gets the usual scale of the others.

    Example:
        >>> mean, scale = moments(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
        >>> mean.tolist(), scale.tolist()
        ([2.0, 7.0], [1.0, 1.0])
    """
    values = values.double()
    mean = values.mean(dim=0)
    distance = values - mean
    scale = torch.maximum(distance.square().mean(dim=0).sqrt(), distance.abs().amax(dim=0) / 4)
    moving = scale > 1e-12 * mean.abs().clamp_min(1e-300)
    usual = scale[moving].median() if bool(moving.any()) else torch.ones((), dtype=torch.float64)
    return mean, torch.where(moving, scale, usual)
