"""LP506: a softmax stands where an activation should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.tape import LINEAR_OPERATIONS, PASSING_OPERATIONS, Operation, Tape

_POOLING = frozenset(f"{kind}_pool{n}d" for kind in ("avg", "max") for n in (1, 2, 3))
_BETWEEN = PASSING_OPERATIONS | _POOLING | {"max_pool2d_with_indices", "relu"}


@dataclass(frozen=True)
class SoftmaxBetweenLayers(Rule):
    """A softmax stands where an activation should be.

    What it detects:
        A linear or convolutional layer that is given the output of a softmax, but for shape
        operations, pooling and dropout. Attention and gates are left alone: there a softmax weighs
        values that were computed from data, and is not the input of a layer with weights.

    Why it matters:
        The units of a softmax share a sum of 1: of n units each is about 1/n, and so are its
        slopes. What goes on is small and all but constant, and the gradient that comes back is
        divided by n at each such layer.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> def layer(index, given):
        ...     weight = Operand("parameter", name=f"{index}.weight", shape=(8, 8))
        ...     return Operation(index, "linear", f"{index}", (given, weight), (32, 8))
        >>> first = layer(0, Operand("batch", 0, "0", (32, 8)))
        >>> shared = Operation(1, "softmax", "1", (Operand("operation", 0),), (32, 8))
        >>> second = layer(2, Operand("operation", 1, shape=(32, 8)))
        >>> run = history(tapes=[Tape(0, (first, shared, second), root=2)])
        >>> SoftmaxBetweenLayers().check(run).message
        '2 (linear) is given the output of a softmax over 8 units: each is about 0.125'

    Remedies:
        Advice only: ReLU or GELU in the place of each softmax between layers.

    Known limitations:
        Soft choices among the rows of a weight (codebooks, soft embeddings) look the same; it is
        only said while the training fails.

    References:
        Goodfellow, Bengio and Courville, 2016, Deep Learning, chapter 6.2.2. Humbatova et al.,
        2021, DeepCrime (ISSTA): change of activation.
    """

    code: ClassVar[str] = "LP506"
    name: ClassVar[str] = "softmax-between-layers"
    explains: ClassVar = (
        "LP104",
        "LP302",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP414",
        "LP707",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "the units of a softmax share a sum of 1: little goes on, less comes back"

    sure: float = 0.85
    fewest_units: int = 4

    def check(self, history: History) -> Finding | None:
        """Return the fault where a layer with weights is given what a softmax made."""
        tape = history.last_tape
        found = [] if tape is None else list(_fed_by_softmax(tape, self.fewest_units))
        if tape is None or not found:
            return None
        softmax, layer, units = found[0]
        others = len(found) - 1
        more = f", and so in {others} more place{'s' * (others > 1)}" if others else ""
        return self.finding(
            history,
            self.sure,
            f"{layer.site} is given the output of a softmax over {units} units: each is about "
            f"{1 / units:.3g}{more}",
            evidence=(
                Evidence("layers given the output of a softmax", float(len(found)), 0.0),
                Evidence("units that share a sum of 1", float(units), where=softmax.site),
            ),
            fix=f"put nn.ReLU() in the place of {softmax.site}: softmax belongs to the output",
            where=softmax.site,
            step=tape.step,
        )


def _fed_by_softmax(tape: Tape, fewest: int) -> Iterator[tuple[Operation, Operation, int]]:
    """Yield each softmax, the trained layer that takes its output, and the units it runs over."""
    for layer in called(tape, LINEAR_OPERATIONS) if "softmax" in tape.names else ():
        weighted = any(o.is_weight for o in layer.operands)
        if not weighted or not layer.requires_grad:
            continue
        given = layer.operands[0]
        source = tape.origin(given, _BETWEEN) if given.source == "operation" else None
        units = 0 if source is None or source.name != "softmax" else _units(source)
        if source is not None and units >= fewest:
            yield source, layer, units


def _units(softmax: Operation) -> int:
    """Return over how many units a softmax runs; 0 where that is the batch or not known."""
    dim = softmax.attributes.get("dim")
    dim = 1 if dim is None and len(softmax.shape) > 1 else dim
    if not isinstance(dim, int) or not -len(softmax.shape) <= dim < len(softmax.shape):
        return 0
    return 0 if dim % len(softmax.shape) == 0 else softmax.shape[dim]
