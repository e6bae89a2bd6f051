"""The stages of a network: a linear operation, its parameters, and the activation it leads to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_plateau.core.derived import derived
from lightning_plateau.core.layers import computing
from lightning_plateau.core.tape import (
    ACTIVATIONS,
    LINEAR_OPERATIONS,
    LOSSES,
    NORMALIZATIONS,
    PASSING_OPERATIONS,
    Operation,
    Tape,
)

_SUMS = frozenset({"add", "add_", "iadd", "radd", "cat", "concat"})


@dataclass(frozen=True, slots=True)
class Stage:
    """A linear or convolutional operation and where it leads.

    Attributes:
        operation: The operation.
        weight: Dotted name of its weight.
        bias: Dotted name of its bias; ``""`` for none.
        activation: The activation that it leads to; None where it leads to none.
    """

    operation: Operation
    weight: str
    bias: str = ""
    activation: Operation | None = None


class Wiring:
    """Which operations use what others have made.

    Args:
        tape: The forward pass.
    """

    def __init__(self, tape: Tape) -> None:
        self._users: dict[int, list[Operation]] = defaultdict(list)
        self._path = computing(tape)
        for operation in self._path:
            for operand in operation.operands:
                if operand.source == "operation":
                    self._users[operand.index].append(operation)

    @property
    def path(self) -> tuple[Operation, ...]:
        """The operations that the loss was computed by."""
        return self._path

    def users_of(self, operation: Operation) -> Sequence[Operation]:
        """Return the operations that use the output of ``operation``."""
        return self._users.get(operation.index, ())

    def next_of(self, operation: Operation, names: Iterable[str]) -> tuple[Operation, ...]:
        """Return the first operations after ``operation`` on any way that pass no value on.

        Shapes, dropout, pooling, sums and, of the rest, what ``names`` lists are walked through.
        """
        through = PASSING_OPERATIONS | _SUMS | frozenset(names)
        found: dict[int, Operation] = {}
        waiting = [operation.index]
        seen: set[int] = set()
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            for user in self._users.get(index, ()):
                if user.name in through or "pool" in user.name:
                    waiting.append(user.index)
                else:
                    found[user.index] = user
        return tuple(found[index] for index in sorted(found))


@derived
def wiring(tape: Tape) -> Wiring:
    """Return which operations use what others have made."""
    return Wiring(tape)


@derived
def stages(tape: Tape) -> tuple[Stage, ...]:
    """Return the stages of the network in call order; a weight that is used twice is left out.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> x, weight = (
        ...     Operand("batch", 0, "0"),
        ...     Operand("parameter", name="fc.weight", shape=(4, 2)),
        ... )
        >>> fc = Operation(0, "linear", "fc", (x, weight))
        >>> relu = Operation(1, "relu", "act", (Operand("operation", 0),))
        >>> [(stage.weight, stage.activation.name) for stage in stages(Tape(0, (fc, relu)))]
        [('fc.weight', 'relu')]
    """
    wired = wiring(tape)
    uses: dict[str, int] = defaultdict(int)
    for operation in wired.path:
        for operand in operation.operands:
            if operand.source == "parameter":
                uses[operand.name] += 1
    found = []
    for operation in wired.path:
        own = [o for o in operation.operands if o.source == "parameter" and o.name]
        weights = [o.name for o in own if len(o.shape) >= 2]
        if operation.name not in LINEAR_OPERATIONS or len(weights) != 1 or uses[weights[0]] != 1:
            continue
        bias = next((o.name for o in own if len(o.shape) == 1 and uses[o.name] == 1), "")
        found.append(Stage(operation, weights[0], bias, _activation(wired, operation)))
    return tuple(found)


@derived
def hidden_activations(tape: Tape) -> tuple[Operation, ...]:
    """Return the activations all of whose values go into further layers, in call order.

    Gates, which are multiplied with something, and activations of the output are none of them.
    """
    wired = wiring(tape)
    return tuple(
        operation
        for operation in wired.path
        if operation.name in ACTIVATIONS
        and (users := wired.next_of(operation, NORMALIZATIONS))
        and all(user.name in LINEAR_OPERATIONS for user in users)
    )


def _activation(wired: Wiring, operation: Operation) -> Operation | None:
    users = wired.next_of(operation, NORMALIZATIONS)
    leads = [user for user in users if user.name in ACTIVATIONS and user.name not in LOSSES]
    return leads[0] if leads and len(leads) == len(users) else None
