"""LP503: a layer follows another with no activation between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called, times_used
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.tape import PASSING_OPERATIONS, Operand, Operation, Tape

_CONVOLUTIONS = frozenset(
    ["conv1d", "conv2d", "conv3d"] + [f"conv_transpose{n}d" for n in (1, 2, 3)]
)
_LAYERS = _CONVOLUTIONS | frozenset({"linear", "matmul", "mm", "addmm", "bmm"})
_POOLING = frozenset(
    [f"{kind}{n}d" for kind in ("avg_pool", "adaptive_avg_pool") for n in (1, 2, 3)]
)
_BETWEEN = PASSING_OPERATIONS | _POOLING | {"batch_norm"}
_SUMS = frozenset({"add", "iadd", "sub", "isub"})
_LINEAR = _LAYERS | _BETWEEN | _SUMS | {"mul", "div", "truediv", "mean", "sum", "cat", "pad"}


@dataclass(frozen=True, slots=True)
class _Layer:
    """A call of a layer with weights that are trained."""

    operation: Operation
    weight: str
    weight_shape: tuple[int, ...]
    given: Operand


@dataclass(frozen=True)
class MissingNonlinearity(Rule):
    """A layer follows another with no activation between them.

    What it detects:
        Two linear or convolutional layers of which the second is given the output of the first, but
        for shape operations, dropout, average pooling and batch norm. Where the whole network up to
        there is linear, that is likely what keeps the loss up; elsewhere it is said as possible.
        Deliberate factorizations are left alone: a first layer narrower than what goes in and what
        comes out (LoRA, bottlenecks, linear autoencoders), depthwise convolutions, an output used
        more than once, layers that are frozen.

    Why it matters:
        Linear layers in a row are one linear layer: no depth is gained, and nothing is learned that
        a single layer could not learn.

    Example:
        >>> from lightning_plateau.testing import history
        >>> def layer(index, given):
        ...     weight = Operand("parameter", name=f"{index}.weight", shape=(8, 8))
        ...     return Operation(index, "linear", f"{index}", (given, weight), (32, 8))
        >>> first = layer(0, Operand("batch", 0, "0", (32, 8)))
        >>> second = layer(1, Operand("operation", 0, shape=(32, 8)))
        >>> run = history(tapes=[Tape(0, (first, second), root=1)])
        >>> MissingNonlinearity().check(run).message
        '2 of 2 layers have no activation between them: 0 (linear), 1 (linear)'

    Remedies:
        Advice only: put a ReLU or GELU between the layers.

    Known limitations:
        Layers written as a product with a transposed weight (``x @ w.T``) are not seen. A max
        pooling or a layer norm counts as an activation.

    References:
        Schoop et al., 2021, UMLAUT: Debugging Deep Learning Programs using Program Structure and
        Model Behavior (CHI). Humbatova et al., 2020, Taxonomy of Real Faults in Deep Learning
        Systems (ICSE): missing activation.
    """

    code: ClassVar[str] = "LP503"
    name: ClassVar[str] = "missing-nonlinearity"
    explains: ClassVar = ("LP306", "LP401", "LP405", "LP802", "LP803", "LP807", "LP808")
    why: ClassVar[str] = "linear layers in a row can learn no more than one of them"

    throughout: float = 0.75
    somewhere: float = 0.35
    most_named: int = 3

    def check(self, history: History) -> Finding | None:
        """Return the fault where layers are joined without an activation."""
        tape = history.last_tape
        if tape is None:
            return None
        layers = tuple(_layers(tape))
        made = {layer.operation.index: layer for layer in layers}
        pairs = [pair for layer in layers if (pair := _pair(tape, layer, made)) is not None]
        if not pairs:
            return None
        last = pairs[-1][1].operation
        linear = all(o.name in _LINEAR for o in tape.ancestors(last)) and len(pairs) + 1 >= len(
            {layer.weight for layer in layers}
        )
        return self._report(history, tape, pairs, linear)

    def _report(
        self, history: History, tape: Tape, pairs: list[tuple[_Layer, _Layer]], linear: bool
    ) -> Finding:
        first, second = pairs[0]
        sites = [first.operation.site, *(pair[1].operation.site for pair in pairs)]
        named = ", ".join(sites[: self.most_named])
        named += f" and {len(sites) - self.most_named} more" if len(sites) > self.most_named else ""
        if linear:
            count = f"{len(sites)} of {len(sites)}"
            said = f"{count} layers have no activation between them: {named}"
        else:
            said = (
                f"{len(pairs)} layer{'s follow' if len(pairs) > 1 else ' follows'} another without "
                "an activation: "
                f"{second.operation.site} follows {first.operation.site}"
            )
        finding = self.finding(
            history,
            self.throughout if linear else self.somewhere,
            said,
            evidence=(
                Evidence("layers that directly follow a layer", float(len(pairs)), 0.0, sites[1]),
            ),
            fix=f"put an activation between {first.operation.site} and {second.operation.site}: "
            "nn.ReLU()",
            where=second.operation.site,
            step=tape.step,
        )
        # One pair among activations wastes a layer, but seldom keeps a loss where it is.
        return finding if linear else replace(finding, severity=Severity.WARNING, explains=())


def _layers(tape: Tape) -> Iterator[_Layer]:
    """Yield the layers with weights under gradient that the loss was computed by."""
    for operation in called(tape, _LAYERS):
        if not operation.requires_grad:
            continue
        weights = [o for o in operation.operands if o.source == "parameter" and len(o.shape) > 1]
        given = [o for o in operation.operands if o.source in ("operation", "batch")]
        if len(weights) == 1 and len(given) == 1:
            yield _Layer(operation, weights[0].name, weights[0].shape, given[0])


def _pair(tape: Tape, second: _Layer, layers: Mapping[int, _Layer]) -> tuple[_Layer, _Layer] | None:
    """Return the layer that ``second`` directly follows, with it; None where there is none."""
    source = _source(tape, second.given)
    first = None if source is None else layers.get(source.index)
    if first is None or first.weight == second.weight or _is_deliberate(first, second):
        return None
    return first, second


def _source(tape: Tape, operand: Operand) -> Operation | None:
    """Return the operation that ``operand`` comes from, if everything on the way is used once."""
    users = times_used(tape)
    while operand.source == "operation" and users.get(operand.index, 0) == 1:
        operation = tape.operations[operand.index]
        if operation.name in _SUMS:
            terms = [o for o in operation.operands if o.source != "parameter"]
            if len(terms) != 1 or len(operation.operands) == 1:
                return None
            operand = terms[0]
        elif operation.name in _BETWEEN and operation.operands:
            operand = operation.operands[0]
        else:
            return operation
    return None


def _is_deliberate(first: _Layer, second: _Layer) -> bool:
    """Whether two layers in a row were meant: a factorization of one large layer."""
    middle = prod(first.operation.shape)
    narrow = middle < min(prod(first.given.shape), prod(second.operation.shape))
    return narrow or any(_is_grouped(layer) for layer in (first, second))


def _is_grouped(layer: _Layer) -> bool:
    """Whether a convolution sees only some of the channels, as depthwise ones do."""
    if layer.operation.name not in _CONVOLUTIONS:
        return False
    transposed = layer.operation.name.startswith("conv_transpose")
    channels = layer.operation.shape if transposed else layer.given.shape
    return layer.weight_shape[1:2] != channels[1:2]
