"""The weights of a network in the order in which the forward pass uses them."""

from __future__ import annotations

from collections.abc import Mapping, Set

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.tape import LINEAR_OPERATIONS, RECURRENCES, Operation, Tape

_LAYERS = LINEAR_OPERATIONS | RECURRENCES
_NOT_LAYERS = frozenset({"Embedding", "EmbeddingBag"})


@derived
def computing(tape: Tape) -> tuple[Operation, ...]:
    """Return the operations that the loss was computed by, in call order; all where unknown."""
    if tape.root is None or not 0 <= tape.root < len(tape):
        return tape.operations
    return tape.ancestors(tape.operations[tape.root])[::-1]


def called(tape: Tape, names: Set[str]) -> tuple[Operation, ...]:
    """Return the calls of functions of these names that the loss was computed by, in call order.

    Example:
        >>> chain = Operation(0, "linear"), Operation(1, "relu"), Operation(2, "linear")
        >>> [call.index for call in called(Tape(0, chain), {"linear"})]
        [0, 2]
    """
    calls = tape.named(names)
    return tuple(call for call in calls if call.index in _on_the_way(tape)) if calls else ()


@derived
def _on_the_way(tape: Tape) -> frozenset[int]:
    return frozenset(operation.index for operation in computing(tape))


@derived
def times_used(tape: Tape) -> Mapping[int, int]:
    """Return how many operations on the way to the loss use the output of each operation.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> twice = (Operand("operation", 0), Operand("operation", 0))
        >>> times_used(Tape(0, (Operation(0, "relu"), Operation(1, "mul", operands=twice)), 1))
        {0: 1}
    """
    users: dict[int, int] = {}
    for operation in computing(tape):
        for index in {o.index for o in operation.operands if o.source == "operation"}:
            users[index] = users.get(index, 0) + 1
    return users


@derived
def weights_by_depth(history: History) -> tuple[str, ...]:
    """Return the names of the weights of linear, convolutional and recurrent layers, by depth.

    Biases, the scales of normalization layers and embeddings are left out: their gradients obey
    other laws. The order is that of the calls on the latest tape; without a tape, that of the
    definition.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> weight = lambda name: Operand("parameter", name=name, shape=(4, 4))
        >>> calls = [Operation(i, "linear", operands=(weight(n),)) for i, n in enumerate("ba")]
        >>> weights_by_depth(History(tapes=(Tape(0, tuple(calls)),)))
        ('b', 'a')
    """
    tape = history.last_tape
    used = () if tape is None else _weights_called(tape)
    return used or tuple(
        p.name for p in history.profile.parameters if _is_weight(history.profile, p)
    )


def _weights_called(tape: Tape) -> tuple[str, ...]:
    names = (
        operand.name
        for operation in called(tape, _LAYERS)
        for operand in operation.operands
        if operand.source == "parameter" and len(operand.shape) >= 2
    )
    return tuple(dict.fromkeys(names))


def _is_weight(profile: Profile, parameter: ParameterFact) -> bool:
    if len(parameter.shape) < 2 or not parameter.trainable:
        return False
    owner = profile.module(parameter.module)
    return owner is None or owner.kind not in _NOT_LAYERS
