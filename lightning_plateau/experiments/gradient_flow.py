"""How does the gradient run through the layers?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from lightning_plateau.core.signal import EXPERIMENT_GRADIENT_FLOW, Signal
from lightning_plateau.experiments.experiment import Bench, Experiment, Row
from lightning_plateau.experiments.sandbox import InconclusiveError, seed


@dataclass(frozen=True)
class GradientFlow(Experiment):
    """The root mean square of the gradient of each layer's output, in the order of the calls.

    Gradients of parameters grow with what a layer is given; those of outputs tell what arrives.

    References:
        Glorot and Bengio, 2010, Understanding the Difficulty of Training Deep Feedforward Neural
        Networks (AISTATS).
    """

    name: ClassVar[str] = "gradient-flow"
    signal: ClassVar[Signal] = EXPERIMENT_GRADIENT_FLOW
    cost: ClassVar[float] = 1.0
    tells: ClassVar[tuple[str, ...]] = ("LP302",)

    def run(self, bench: Bench) -> tuple[Row, ...]:
        """Return the root mean squares by layer, 0 where no gradient arrives."""
        sandbox = bench.sandbox()
        outputs: dict[str, Tensor] = {}
        for name, layer in sandbox.module.named_modules():
            if next(layer.parameters(recurse=False), None) is not None:
                layer.register_forward_hook(_keeper(outputs, name))
        seed(1)
        sandbox.gradients(bench.given[0])
        flow = {name: _size(output) for name, output in outputs.items()}
        if not flow:
            raise InconclusiveError("no layer with parameters was called")
        return (flow,)


def _keeper(outputs: dict[str, Tensor], name: str) -> Any:
    def keep(layer: nn.Module, args: Any, output: Any) -> None:
        made = output[0] if isinstance(output, tuple) else output
        if isinstance(made, Tensor) and made.requires_grad and name not in outputs:
            made.retain_grad()
            outputs[name] = made

    return keep


def _size(output: Tensor) -> float:
    if output.grad is None:
        return 0.0
    return float(output.grad.float().square().mean().sqrt())
