"""Scores that are cosines, and so no further apart than a constant lets them be."""

from __future__ import annotations

import math

from lightning_plateau.core.tape import Operand, Operation, Tape

_PRODUCTS = frozenset({"linear", "matmul", "mm", "bmm", "rmatmul"})
_MULTIPLIED = frozenset({"mul", "multiply", "rmul", "imul"})
_DIVIDED = frozenset({"div", "divide", "truediv", "true_divide", "itruediv"})
_LENGTHS = frozenset({"norm", "vector_norm"})
_AT_LEAST = frozenset({"clamp", "clamp_min", "clip", "add", "maximum"})


def scale_of_cosines(tape: Tape, scores: Operand) -> float | None:
    """Return the largest magnitude of scores that are cosines times constants; None for others.

    A temperature that is learned is no constant.

    Example:
        >>> one, other = Operand("parameter", name="a"), Operand("parameter", name="b")
        >>> units = tuple(Operation(i, "normalize", "", (p,)) for i, p in enumerate((one, other)))
        >>> sides = (Operand("operation", 0), Operand("operation", 1))
        >>> cosines = Operation(2, "matmul", "", sides)
        >>> scaled = Operation(3, "div", "", (Operand("operation", 2),), attributes={"arg1": 0.1})
        >>> scale_of_cosines(Tape(0, (*units, cosines, scaled)), Operand("operation", 3))
        10.0
    """
    scale, operation = 1.0, tape.origin(scores)
    while operation is not None and operation.name in _MULTIPLIED | _DIVIDED:
        factor = _constant(operation)
        if factor is None:
            return None
        scale *= factor if operation.name in _MULTIPLIED else 1.0 / factor
        operation = tape.origin(operation.operands[0])
    return scale if operation is not None and _is_cosine(tape, operation) else None


def _constant(operation: Operation) -> float | None:
    """Return the number that a tensor is multiplied or divided by; None for anything else."""
    numbers = [
        abs(float(value))
        for value in operation.attributes.values()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    alone = len(operation.operands) == 1 and len(numbers) == 1
    return numbers[0] if alone and 0.0 < numbers[0] < math.inf else None


def _is_cosine(tape: Tape, operation: Operation) -> bool:
    if operation.name == "cosine_similarity":
        return True
    if operation.name not in _PRODUCTS or len(operation.operands) != 2:
        return False
    return all(_is_unit(tape, tape.origin(side)) for side in operation.operands)


def _is_unit(tape: Tape, operation: Operation | None) -> bool:
    """Whether what an operation makes are vectors of length 1."""
    if operation is None:
        return False
    if operation.name == "normalize":
        return operation.attributes.get("p", 2.0) == 2.0
    if operation.name not in _DIVIDED or len(operation.operands) != 2:
        return False
    length = tape.origin(operation.operands[1])
    while length is not None and length.name in _AT_LEAST and length.operands:
        length = tape.origin(length.operands[0])
    return length is not None and length.name in _LENGTHS
