"""The draft of a tape: its statistics are still on the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from numpy.typing import NDArray
from torch import Tensor

from lightning_plateau.core.tape import Operation, Tape
from lightning_plateau.recording.outputs import Outputs, Statistics, joined
from lightning_plateau.recording.probes.activations import completed

Key = TypeVar("Key")


@dataclass
class Draft:
    """A tape whose statistics are still on the device.

    Attributes:
        step: Optimizer step.
        operations: The operations without statistics.
        outputs: Statistics of outputs by operation and name.
        operands: Statistics of operands by operation and position, and by name, 0-d each.
        normalizations: Batch moments by layer, ``[2]`` each, and the values per channel.
        root: Index of the operation that backward started from.
        root_requires_grad: Whether the tensor of backward takes part in backward.
        training: Whether the module as a whole was in training mode.
    """

    step: int
    operations: list[Operation] = field(default_factory=list)
    outputs: Outputs = field(default_factory=Outputs)
    operands: dict[tuple[int, int], dict[str, Tensor]] = field(default_factory=dict)
    normalizations: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    root: int | None = None
    root_requires_grad: bool = True
    training: bool = True

    def tensors(self) -> list[Tensor]:
        """Return the statistics that are still on the device, in the order of ``tape``."""
        operands = [value for row in self.operands.values() for value in row.values()]
        return joined([*self.outputs.tensors(), *operands])

    def tape(self, arrays: Sequence[NDArray[Any]]) -> Tape:
        """Return the tape, given the values of ``tensors()`` on the host."""
        values = iter(arrays[0].tolist() if arrays else ())
        outputs = _applicable(self.outputs.read(values))
        operands = _applicable(
            {
                key: completed({name: next(values) for name in names})
                for key, names in self.operands.items()
            }
        )
        told: dict[int, dict[int, Statistics]] = {}
        for (index, position), statistics in operands.items():
            told.setdefault(index, {})[position] = statistics
        complete = [
            _with_statistics(one, outputs.get(one.index), told.get(one.index))
            for one in self.operations
        ]
        return Tape(self.step, tuple(complete), self.root, self.root_requires_grad, self.training)


def _with_statistics(
    made: Operation, output: Statistics | None, operands: Mapping[int, Statistics] | None
) -> Operation:
    """Return an operation with what was measured of its output and, by position, its operands."""
    if output is None and operands is None:
        return made
    taken = made.operands
    if operands is not None:
        taken = tuple(
            replace(operand, statistics=operands[position]) if position in operands else operand
            for position, operand in enumerate(taken)
        )
    return replace(made, operands=taken, statistics=output or {})


def _applicable(rows: Mapping[Key, Statistics]) -> dict[Key, Statistics]:
    """Return the statistics by key; those that a tensor does not have (NaN) are left out."""
    return {
        key: {
            name: value
            for name, value in row.items()
            if not math.isnan(value) or name in _MEANINGFUL_NAN
        }
        for key, row in rows.items()
    }


_MEANINGFUL_NAN = frozenset({"mean", "std", "minimum", "maximum"})
