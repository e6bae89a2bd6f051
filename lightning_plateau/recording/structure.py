"""What a module consists of, found in a single walk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Structure:
    """The layers, parameters and buffers of a module, each once and under its first name.

    Attributes:
        layers: Name and module, the module itself first, as ``named_modules`` gives them.
        names: Name of each module by its identity.
        parametric: Names of the modules that hold parameters, or whose children do.
        parameters: Name and tensor, as ``named_parameters`` gives them.
        buffers: Name and tensor, as ``named_buffers`` gives them.

    Example:
        >>> from torch import nn
        >>> structure = Structure.of(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        >>> [name for name, _ in structure.layers], sorted(structure.parametric)
        (['', '0', '1'], ['', '0'])
    """

    layers: tuple[tuple[str, nn.Module], ...]
    names: dict[int, str]
    parametric: frozenset[str]
    parameters: tuple[tuple[str, Tensor], ...]
    buffers: tuple[tuple[str, Tensor], ...]

    @classmethod
    def of(cls, module: nn.Module) -> Structure:
        """Walk through ``module`` as it is now."""
        layers = tuple(module.named_modules())
        known: dict[int, bool] = {}
        return cls(
            layers,
            {id(layer): name for name, layer in layers},
            frozenset(name for name, layer in layers if _holds_parameters(layer, known)),
            _held(layers, lambda layer: layer._parameters),
            _held(layers, lambda layer: layer._buffers),
        )


def _holds_parameters(layer: nn.Module, known: dict[int, bool]) -> bool:
    """Whether a module or one below it holds a parameter; ``known`` by identity, and filled."""
    if id(layer) not in known:
        known[id(layer)] = False  # should it hold itself
        own = any(parameter is not None for parameter in layer._parameters.values())
        known[id(layer)] = own or any(
            _holds_parameters(child, known)
            for child in layer._modules.values()
            if child is not None
        )
    return known[id(layer)]


def _held(
    layers: tuple[tuple[str, nn.Module], ...],
    of: Callable[[nn.Module], Mapping[str, Tensor | None]],
) -> tuple[tuple[str, Tensor], ...]:
    found: dict[int, tuple[str, Tensor]] = {}
    for prefix, layer in layers:
        for name, tensor in of(layer).items():
            if tensor is not None:
                found.setdefault(id(tensor), (f"{prefix}.{name}" if prefix else name, tensor))
    return tuple(found.values())
