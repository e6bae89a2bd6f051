"""The objective of a training, read off its tape: what is compared with what to make the loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightning_plateau.core.derived import derived
from lightning_plateau.core.tape import LOSSES, SHAPE_OPERATIONS, Operand, Operation, Tape

DIFFERENCES = frozenset({"sub", "rsub", "subtract"})
"""Operations that a hand-written regression loss starts with."""

_REDUCTIONS = frozenset(
    ["mean", "sum", "nanmean", "nansum", "median", "norm", "vector_norm", "logsumexp", "amax"]
)
_ARITHMETIC = frozenset(
    [
        "pow",
        "square",
        "abs",
        "absolute",
        "sqrt",
        "mul",
        "multiply",
        "div",
        "truediv",
        "rtruediv",
        "add",
        "neg",
        "exp",
        "log",
        "log1p",
        "clamp",
        "clip",
        "where",
        "imul",
        "itruediv",
        "iadd",
        "cosh",
        "maximum",
        "minimum",
        "max",
        "min",
        "stack",
        "cat",
    ]
)
CLOSING_OPERATIONS = SHAPE_OPERATIONS | _REDUCTIONS | _ARITHMETIC | DIFFERENCES
"""Operations between a comparison and the loss: no weights are used there any more."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction beside its target, on the way to the loss.

    Attributes:
        operation: The loss function, or the subtraction of a loss written by hand.
        prediction: The operand that depends on parameters.
        target: The operand that does not.
    """

    operation: Operation
    prediction: Operand
    target: Operand

    @property
    def by_hand(self) -> bool:
        """Whether the loss is written by hand."""
        return self.operation.name in DIFFERENCES


@derived
def comparisons(tape: Tape) -> tuple[Comparison, ...]:
    """Return every prediction that the loss compares with a target, in call order.

    Loss functions are found wherever backward came from them. A subtraction counts where only
    arithmetic and reductions lie between it and the loss, and its other side uses no parameters.

    Example:
        >>> weight, y = Operand("parameter", name="w"), Operand("batch", 1, "1")
        >>> made = Operation(0, "linear", operands=(Operand("batch", 0, "0"), weight))
        >>> gap = Operation(1, "sub", operands=(y, Operand("operation", 0)))
        >>> loss = Operation(2, "mean", operands=(Operand("operation", 1),))
        >>> [found] = comparisons(Tape(0, (made, gap, loss), root=2))
        >>> found.by_hand, found.prediction.source, found.target.name
        (True, 'operation', '1')
    """
    parametric = parametric_operations(tape)
    return tuple(
        Comparison(operation, *sides)
        for operation in _comparing(tape)
        if (sides := _sides(operation, parametric)) is not None
    )


@derived
def judged(tape: Tape) -> tuple[Comparison, ...]:
    """Return ``comparisons``, and those with a target that a network made but no gradient reaches.

    So do a slow copy of the network and a teacher: what they say is held fixed, as a label is.

    Example:
        >>> weight, copy = Operand("parameter", name="w"), Operand("parameter", name="copy")
        >>> made = Operation(0, "linear", operands=(Operand("batch", 0, "0"), weight))
        >>> sides = (Operand("batch", 0, "0"), copy)
        >>> held = Operation(1, "linear", operands=sides, requires_grad=False)
        >>> loss = Operation(2, "mse_loss", "", (Operand("operation", 0), Operand("operation", 1)))
        >>> [found] = judged(Tape(0, (made, held, loss), root=2))
        >>> found.prediction.index, found.target.index
        (0, 1)
    """
    known = {found.operation.index for found in comparisons(tape)}
    held = (
        Comparison(operation, *sides)
        for operation in _comparing(tape)
        if operation.index not in known
        if (sides := _learned_and_held(tape, operation)) is not None
    )
    return (*comparisons(tape), *held)


@derived
def parametric_operations(tape: Tape) -> frozenset[int]:
    """Return the indices of the operations whose output was computed with parameters."""
    parametric: set[int] = set()
    for operation in tape.operations:
        for operand in operation.operands:
            if is_parametric(operand, parametric):
                parametric.add(operation.index)
                break
    return frozenset(parametric)


def is_parametric(operand: Operand, parametric: set[int] | frozenset[int]) -> bool:
    """Whether ``operand`` is a parameter or was computed with one."""
    if operand.source == "operation":
        return operand.index in parametric
    return operand.is_weight


@derived
def closing(tape: Tape) -> tuple[Operation, ...]:
    """Return the operations between the last weights, or loss functions, and the loss."""
    return tuple(_closing(tape))


def _closing(tape: Tape) -> Iterator[Operation]:
    if tape.root is None or not 0 <= tape.root < len(tape):
        return
    wanted = {tape.root}
    for index in range(tape.root, -1, -1):
        operation = tape.operations[index]
        if index not in wanted or operation.name not in CLOSING_OPERATIONS:
            continue
        yield operation
        # What lies before a prediction's subtraction made the prediction, not the loss.
        if operation.name not in DIFFERENCES or not operation.shape:
            wanted.update(o.index for o in operation.operands if o.source == "operation")


def _sides(operation: Operation, parametric: frozenset[int]) -> tuple[Operand, Operand] | None:
    """Return prediction and target; None where both or neither use parameters."""
    first, second = operation.operands[:2]
    heavy = is_parametric(first, parametric), is_parametric(second, parametric)
    if heavy == (True, False):
        return first, second
    if heavy == (False, True) and operation.name not in _ORDERED:
        return second, first
    return None


def _comparing(tape: Tape) -> list[Operation]:
    """Return the loss functions, and the subtractions that a hand-written loss starts with."""
    called = [operation for operation in tape.losses if len(operation.operands) >= 2]
    subtractions = [
        operation
        for operation in closing(tape)
        if operation.name in DIFFERENCES and len(operation.operands) == 2
    ]
    found = {operation.index: operation for operation in (*called, *subtractions)}
    return [found[index] for index in sorted(found)]


def _learned_and_held(tape: Tape, operation: Operation) -> tuple[Operand, Operand] | None:
    """Return the operand that gradients go through and the one that they do not; else None.

    None as well where one was computed from the other, or, by hand, from nothing else: a difference
    of the two is no error then.
    """
    first, second = operation.operands[:2]
    made, held = tape.producer(first), tape.producer(second)
    if made is None or held is None or made.requires_grad == held.requires_grad:
        return None
    if held.requires_grad:
        if operation.name in _ORDERED:
            return None
        first, second, made, held = second, first, held, made
    if tape.origin(first) in tape.ancestors(held):
        return None
    by_hand = operation.name in DIFFERENCES
    return None if by_hand and _sources(tape, held) <= _sources(tape, made) else (first, second)


def _sources(tape: Tape, made: Operation) -> set[str]:
    """Return the names of all weights and tensors of the batch that an output was made from."""
    return {o.name for before in tape.ancestors(made) for o in before.operands if o.name}


_ORDERED = frozenset({"cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"}) & LOSSES
"""Losses whose first argument cannot be the target."""
