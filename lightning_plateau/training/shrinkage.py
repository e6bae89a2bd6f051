"""Soft thresholding after each step: the proximal form of an L1 penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lightning_plateau.training.optimizers import OptimizerAdapter


class Shrinkage:
    """Moves every weight towards zero after each step, and not beyond it.

    The step of the penalty ``strength·‖w‖₁`` has a closed form: what is smaller than
    ``lr·strength`` becomes exactly zero, the rest moves by that much. Unlike a gradient of the
    penalty it is not distorted by Adam, and makes weights zero in fact. Biases and the parameters
    of normalization layers are left alone.

    Args:
        adapters: The optimizers.
        strength: Factor of the penalty, positive.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([[0.5, -0.01]]))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> shrinkage = Shrinkage([OptimizerAdapter(optimizer)], strength=1.0)
        >>> weight.grad = torch.zeros_like(weight)
        >>> optimizer.step()
        >>> weight.tolist()
        [[0.4000000059604645, 0.0]]
    """

    def __init__(self, adapters: Sequence[OptimizerAdapter], strength: float) -> None:
        self._strength = strength
        self._hooks = [
            adapter.optimizer.register_step_post_hook(self._shrink) for adapter in adapters
        ]

    def _shrink(self, optimizer: Any, *_: Any) -> None:
        with torch.no_grad():
            for group in optimizer.param_groups:
                threshold = group["lr"] * self._strength
                for weight in group["params"]:
                    if weight.dim() >= 2 and weight.grad is not None:
                        weight.sub_(weight.clamp(-threshold, threshold))

    def close(self) -> None:
        """Leave the weights alone again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def finish(self) -> None:
        """Leave the weights alone: training ends."""
        self.close()
