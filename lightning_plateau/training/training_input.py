"""What is done to the input of a layer while it trains, and only then: dropout, augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Change = Callable[[Tensor], Tensor]


class TrainingInput:
    """Changes what enters a layer in training mode; evaluation is left as it is.

    Args:
        layer: The layer.
        change: What is done to its first input.
    """

    def __init__(self, layer: nn.Module, change: Change) -> None:
        def apply(module: nn.Module, inputs: Any) -> Any:
            # Without gradients nothing is being trained, whatever mode the module is in.
            if not (module.training and torch.is_grad_enabled()):
                return None
            return (change(inputs[0]), *inputs[1:])

        self._hook = layer.register_forward_pre_hook(apply)

    def close(self) -> None:
        """Let inputs pass as they are again."""
        self._hook.remove()

    def finish(self) -> None:
        """Let inputs pass as they are: training ends."""
        self.close()


class Jitter:
    """Shifts each image by up to an eighth of its size, mirrors it where asked to, adds noise.

    Args:
        mirror: Whether half of the images are mirrored from left to right.
        noise: Standard deviation of the noise as a share of that of the batch.

    Example:
        >>> Jitter(mirror=True)(torch.zeros(4, 3, 16, 16)).shape
        torch.Size([4, 3, 16, 16])
    """

    def __init__(self, mirror: bool = False, noise: float = 0.05) -> None:
        self._mirror = mirror
        self._noise = noise

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images ``[n, channels, height, width]``, each changed in its own way."""
        height, width = images.shape[-2:]
        most = (max(1, height // 8), max(1, width // 8))
        padded = pad(images, (most[1], most[1], most[0], most[0]))
        rows = self._places(len(images), height, most[0], images.device)
        columns = self._places(len(images), width, most[1], images.device)
        if self._mirror:
            turned = torch.rand(len(images), 1, device=images.device) < 0.5
            columns = torch.where(turned, columns.flip(1), columns)
        samples = torch.arange(len(images), device=images.device)[:, None, None]
        moved = padded.movedim(1, -1)[samples, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        if not moved.is_floating_point():
            return moved
        return moved + self._noise * images.std() * torch.randn_like(moved)

    def _places(self, number: int, extent: int, most: int, device: torch.device) -> Tensor:
        shifts = torch.randint(0, 2 * most + 1, (number, 1), device=device)
        return shifts + torch.arange(extent, device=device)
