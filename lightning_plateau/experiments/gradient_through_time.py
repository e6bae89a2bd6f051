"""How much of the gradient reaches the first steps of a sequence?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_plateau.core.signal import EXPERIMENT_GRADIENT_THROUGH_TIME, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row
from lightning_plateau.experiments.sandbox import InconclusiveError, seed

TENTH = 10
"""The first steps are this part of a sequence: a tenth."""


@dataclass(frozen=True)
class GradientThroughTime(Experiment):
    """The gradient of the loss with respect to what a recurrent layer is given, step by step.

    What a recurrent layer loses on the way through time does not show in its weights, which all
    steps share. Its inputs tell: those of the first steps have a gradient only if it arrives there.

    References:
        Bengio, Simard and Frasconi, 1994, Learning Long-Term Dependencies with Gradient Descent is
        Difficult. Pascanu et al., 2013, On the Difficulty of Training Recurrent Neural Networks.
    """

    name: ClassVar[str] = "gradient-through-time"
    signal: ClassVar[Signal] = EXPERIMENT_GRADIENT_THROUGH_TIME
    cost: ClassVar[float] = 1.0
    tells: ClassVar[tuple[str, ...]] = ("LP302",)

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return of each layer its steps, and the gradient at the first ones and at its largest."""
        sandbox = bench.sandbox()
        given: dict[str, tuple[Tensor, int]] = {}
        for name, layer in sandbox.module.named_modules():
            if isinstance(layer, nn.RNNBase):
                layer.register_forward_pre_hook(_keeper(given, name))
        seed(1)
        sandbox.gradients(bench.given[0])
        row: dict[str, float] = {}
        for name, (tensor, axis) in given.items():
            sizes = _sizes(tensor, axis)
            if sizes:
                row[f"{name} steps"] = float(len(sizes))
                row[f"{name} first"] = max(sizes[: max(1, len(sizes) // TENTH)])
                row[f"{name} largest"] = max(sizes)
        if not row:
            raise InconclusiveError("no recurrent layer was called with a sequence")
        return (row,)


def _keeper(given: dict[str, tuple[Tensor, int]], name: str) -> Callable[..., Any]:
    def keep(layer: Any, args: tuple[Any, ...]) -> Any:
        first = args[0] if args else None
        if name in given or not isinstance(first, Tensor) or not first.is_floating_point():
            return None
        watched = first if first.requires_grad else first.detach().clone().requires_grad_()
        watched.retain_grad()
        given[name] = watched, int(layer.batch_first and watched.dim() == 3)
        return (watched, *args[1:])

    return keep


def _sizes(tensor: Tensor, axis: int) -> list[float]:
    """Return the root mean square of a gradient at each step; none where there is no gradient."""
    if tensor.grad is None or tensor.dim() < 2:
        return []
    steps = tensor.grad.float().movedim(axis, 0).flatten(1)
    sizes: list[float] = steps.square().mean(dim=1).sqrt().tolist()
    return sizes
