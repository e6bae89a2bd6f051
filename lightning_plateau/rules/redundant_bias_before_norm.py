"""LP607: a bias is subtracted again by the normalization that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.derived import derived
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import times_used
from lightning_plateau.core.normalization import BatchNormCall, batch_norm_calls
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.tape import SHAPE_OPERATIONS, Operand, Operation, Tape

_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
_BIASED = _CONVOLUTIONS | {"linear"}


@dataclass(frozen=True)
class RedundantBiasBeforeNorm(Rule):
    """A bias is subtracted again by the batch norm that follows it.

    What it detects:
        A linear or convolutional layer with a bias whose output goes nowhere but into a batch norm
        over the same channels. This is a remark, not a fault.

    Why it matters:
        Batch norm subtracts the mean of each channel, the bias with it: its gradient is zero, and
        it costs memory and time. The norm has a bias of its own.

    Example:
        >>> from lightning_plateau.testing import history
        >>> names = ("fc.weight", (8, 4)), ("fc.bias", (8,))
        >>> weights = tuple(Operand("parameter", name=name, shape=shape) for name, shape in names)
        >>> fc = Operation(
        ...     0, "linear", "fc", (Operand("batch", 0, "0", (32, 4)), *weights), (32, 8)
        ... )
        >>> norm = Operation(1, "batch_norm", "bn", (Operand("operation", 0, shape=(32, 8)),))
        >>> run = history(tapes=[Tape(0, (fc, norm), root=1)])
        >>> RedundantBiasBeforeNorm().check(run).message
        'the batch norm bn subtracts the bias of the layer before it: 1 bias in vain (fc.bias)'

    Remedies:
        Advice only: ``bias=False``.

    Known limitations:
        Only batch norm in training mode: with running statistics a bias has an effect.

    References:
        Ioffe and Szegedy, 2015, Batch Normalization (ICML), section 3.2.
    """

    code: ClassVar[str] = "LP607"
    name: ClassVar[str] = "redundant-bias-before-norm"
    severity: ClassVar[Severity] = Severity.INFO
    needs_failure: ClassVar[bool] = False
    why: ClassVar[str] = "batch norm subtracts the mean of each channel, and the bias with it"

    most_named: int = 3

    def check(self, history: History) -> Finding | None:
        """Return a remark on the biases that batch norm subtracts."""
        tape = history.last_tape
        if tape is None:
            return None
        pairs = _redundant(tape)
        if not pairs:
            return None
        names = list(pairs)
        named = ", ".join(names[: self.most_named])
        named += f" and {len(names) - self.most_named} more" if names[self.most_named :] else ""
        norm = pairs[names[0]].name
        count = f"{len(names)} bias" + ("es" if len(names) > 1 else "")
        return self.finding(
            history,
            1.0,
            f"the batch norm {norm} subtracts the bias of the layer before it: {count} in vain "
            f"({named})",
            evidence=(Evidence("biases that a norm subtracts", float(len(names)), 0.0, names[0]),),
            fix="bias=False in the layers that a batch norm follows",
            where=names[0],
            step=tape.step,
        )


@derived
def _redundant(tape: Tape) -> dict[str, BatchNormCall]:
    """Return the norms that subtract a bias, by its name."""
    pairs = {}
    users = times_used(tape)
    for call in batch_norm_calls(tape):
        layer = _only_source(tape, call.given, users)
        if layer is None or not call.training:
            continue
        bias = _bias(layer)
        if bias is not None and bias.shape == (call.channels,) and _same_channels(layer, call):
            pairs[bias.name] = call
    return pairs


def _only_source(tape: Tape, operand: Operand, users: Mapping[int, int]) -> Operation | None:
    """Return the layer that ``operand`` is the output of, if nothing else uses that output."""
    operation = tape.producer(operand)
    while operation is not None and users.get(operation.index, 0) == 1:
        if operation.name in _BIASED:
            return operation
        if operation.name not in SHAPE_OPERATIONS or not operation.operands:
            return None
        operation = tape.producer(operation.operands[0])
    return None


def _bias(layer: Operation) -> Operand | None:
    """Return the bias of ``layer``: the parameter of one dimension beside that of more."""
    weights = [operand for operand in layer.operands if operand.source == "parameter"]
    if not any(len(weight.shape) > 1 for weight in weights):
        return None
    return next((weight for weight in weights if len(weight.shape) == 1), None)


def _same_channels(layer: Operation, call: BatchNormCall) -> bool:
    """Whether the norm's channels are the layer's units, rather than by chance as many."""
    if layer.name in _CONVOLUTIONS:
        return len(layer.shape) > 1 and layer.shape[1] == call.channels
    # The units of a linear layer lie last: in more than two dimensions somebody must move them.
    return len(layer.shape) == 2 or (
        layer.shape != call.given.shape and layer.shape[-1] == call.channels
    )
