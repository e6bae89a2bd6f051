"""A target that moves: whether a loss is measured against what the training itself makes.

Where a network is compared with answers of a network (bootstrapped values, a slow copy of itself,
a teacher) or with samples of its own (the actions of a policy), the level of the loss is no measure
of error: it rises where the targets move away, though every step does what it should.
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import (
    DIFFERENCES,
    closing,
    is_parametric,
    parametric_operations,
)
from lightning_plateau.core.penalty import terms
from lightning_plateau.core.tape import Operand, Tape

SAMPLING = frozenset({"multinomial", "bernoulli", "normal", "poisson", "binomial"})
"""Operations that draw from a distribution, of the model where its parameters went into it."""


@derived
def target_moves(history: History) -> bool:
    """Whether the targets of the latest loss were made by a network, or drawn from its answers.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> linear = lambda index, name: Operation(
        ...     index, "linear", "", (Operand("batch"), Operand("parameter", name=name))
        ... )
        >>> pair = Operand("operation", 0), Operand("operation", 1)
        >>> loss = Operation(2, "mse_loss", "", pair)
        >>> tape = Tape(0, (linear(0, "q.weight"), linear(1, "copy.weight"), loss), root=2)
        >>> target_moves(history(tapes=[tape]))
        True
    """
    if not history.tapes:
        return False
    tape = history.tapes[-1]
    return any(_between_networks(tape, history.profile.frozen)) or any(_drawn(tape))


def has_bonus(history: History) -> bool:
    """Whether the loss has a term below zero: it has no floor that its level could be held against.

    The entropy of a policy is one, and the logarithm of a determinant.
    """
    return any(
        size < 0
        for tape in history.tapes[-1:]
        if tape.root is not None and 0 <= tape.root < len(tape)
        for size in terms(tape, tape.root).values()
    )


def _between_networks(tape: Tape, frozen: frozenset[str]) -> Iterator[bool]:
    """Yield for each comparison whether its target is the answer of a network."""
    parametric = parametric_operations(tape)
    subtractions = [o for o in closing(tape) if o.name in DIFFERENCES]
    for operation in (*tape.losses, *subtractions):
        sides = operation.operands[:2]
        if len(sides) == 2 and all(is_parametric(side, parametric) for side in sides):
            by_hand = operation.name in DIFFERENCES
            # Logits less their logarithmic sum are no comparison; nothing there is held fixed.
            yield not by_hand or _held(tape, sides[0], frozen) != _held(tape, sides[1], frozen)


def _held(tape: Tape, side: Operand, frozen: frozenset[str]) -> bool:
    """Whether no gradient goes back through ``side``: detached, or made by frozen weights alone."""
    made = tape.producer(side)
    if made is None:
        return side.name in frozen
    before = tape.ancestors(made)
    weights = {o.name for step in before for o in step.operands if o.is_weight}
    return any(step.name == "detach" for step in before) or weights <= frozen


def _drawn(tape: Tape) -> Iterator[bool]:
    """Yield for each draw that the loss depends on whether it was from the model's answers."""
    if tape.root is None or not 0 <= tape.root < len(tape):
        return
    parametric = parametric_operations(tape)
    for operation in tape.ancestors(tape.operations[tape.root]):
        if operation.name in SAMPLING:
            yield any(is_parametric(operand, parametric) for operand in operation.operands)
