"""Writing parameters anew: the values, and what the optimizer remembers of the old ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_plateau.training.optimizers import OptimizerAdapter

Adapters = tuple[OptimizerAdapter, ...]


def rewrite(module: nn.Module, adapters: Adapters, values: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write ``values`` into the parameters of those names; the optimizer forgets the old ones.

    Args:
        module: The module that is trained.
        adapters: Its optimizers.
        values: New values by the name of the parameter, of its shape.

    Returns:
        What ``restore`` needs: tensors on the CPU and plain types.
    """
    parameters = dict(module.named_parameters())
    undo: dict[str, Any] = {"values": {}, "states": {}}
    with torch.no_grad():
        for name, value in values.items():
            parameter = parameters[name]
            undo["values"][name] = parameter.detach().cpu().clone()
            parameter.copy_(value)
            held = _holder(adapters, parameter)
            if held is not None:
                undo["states"][name] = _forget(held, parameter)
    return undo


def restore(module: nn.Module, adapters: Adapters, undo: Mapping[str, Any]) -> None:
    """Write back what ``rewrite`` has replaced, bit for bit."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, value in undo["values"].items():
            parameters[name].copy_(value)
        for name, state in undo["states"].items():
            held = _holder(adapters, parameters[name])
            if held is not None:
                _remember(held, parameters[name], state)


def _holder(adapters: Adapters, parameter: Tensor) -> OptimizerAdapter | None:
    return next((a for a in adapters if any(p is parameter for p in a.parameters)), None)


def _forget(adapter: OptimizerAdapter, parameter: Tensor) -> dict[str, Any] | None:
    """Clear the optimizer's state of a parameter; return a copy, None where there was none."""
    live = adapter.optimizer.state.get(parameter)
    if not live:
        return None
    copy = {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in live.items()}
    if adapter.fused:
        # Its kernel takes all parameters for begun or none; zero is what a fresh state holds.
        for value in live.values():
            if isinstance(value, Tensor):
                value.zero_()
    else:
        del adapter.optimizer.state[parameter]
    return copy


def _remember(adapter: OptimizerAdapter, parameter: Tensor, state: Any) -> None:
    if state is None:
        adapter.optimizer.state.pop(parameter, None)
        return
    live = adapter.optimizer.state[parameter]
    live.clear()
    for key, value in state.items():
        # Step counts may lie on the CPU, the rest lies beside the parameter.
        beside = isinstance(value, Tensor) and value.shape == parameter.shape
        live[key] = value.to(parameter.device, copy=True) if beside else value
