"""Samples: which tensors of the batch hold what a sample is predicted from, and its target."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.roles import shifted_leaf, whole_leaf
from lightning_plateau.core.tape import BINARY_LOSSES, CLASS_LOSSES, Operand, Tape


@dataclass(frozen=True, slots=True)
class Samples:
    """What a sample consists of, read off a tape.

    Attributes:
        inputs: The batch's tensors that the prediction was computed from, samples along their
            first dimension, in the order of the batch.
        target: The batch's tensor that the prediction is compared with, as a whole, or, for
            classes, all but one place of each sequence; None where it was computed, or is another
            part of a tensor.
        classes: Number of classes that the targets tell apart; 0 for other targets.
        one_each: Whether each sample has one target.
    """

    inputs: tuple[Operand, ...]
    target: Operand | None
    classes: int = 0
    one_each: bool = False


@derived
def samples(tape: Tape) -> Samples | None:
    """Return what a sample consists of; None where no loss was seen that tells.

    Of several comparisons the first with classes counts. Where a loss takes only some samples of
    the batch (the labelled nodes of a graph), nothing is said: what enters is no sample then.

    Example:
        >>> from lightning_plateau.core.tape import Operation
        >>> x, y = Operand("batch", 0, "image", (8, 4)), Operand("batch", 1, "label", (8,))
        >>> weight = Operand("parameter", name="w")
        >>> fc = Operation(0, "linear", operands=(x, weight), shape=(8, 3))
        >>> logits = Operand("operation", 0, shape=(8, 3))
        >>> tape = Tape(0, (fc, Operation(1, "cross_entropy", operands=(logits, y))), root=1)
        >>> found = samples(tape)
        >>> [one.name for one in found.inputs], found.target.name, found.classes, found.one_each
        (['image'], 'label', 3, True)
    """
    known = [found for one in comparisons(tape) if (found := _samples(tape, one)) is not None]
    return next((found for found in known if found.classes), next(iter(known), None))


@derived
def samples_of(history: History) -> Samples | None:
    """Return what a sample of ``history`` consists of, by its first tape that tells."""
    known = (found for tape in history.tapes if (found := samples(tape)) is not None)
    return next(known, None)


def _samples(tape: Tape, comparison: Comparison) -> Samples | None:
    target = tape.from_batch(comparison.target)
    compared = prod(comparison.target.shape)
    if target is None or not target.shape or compared < target.shape[0]:
        return None
    size = target.shape[0]
    whole = whole_leaf(tape, comparison.target)
    one_each = whole is not None and prod(whole.shape) == size
    classes = _classes(comparison, one_each)
    counted = whole or (shifted_leaf(tape, comparison.target) if classes else None)
    return Samples(_inputs(tape, comparison, size), counted, classes, one_each)


def _inputs(tape: Tape, comparison: Comparison, size: int) -> tuple[Operand, ...]:
    made = tape.producer(comparison.prediction)
    operands = () if made is None else (o for one in tape.ancestors(made) for o in one.operands)
    found = {
        operand.name: operand
        for operand in operands
        if operand.source == "batch" and operand.shape[:1] == (size,)
    }
    return tuple(sorted(found.values(), key=lambda operand: operand.index))


def _classes(comparison: Comparison, one_each: bool) -> int:
    shape, name = comparison.prediction.shape, comparison.operation.name
    if name in CLASS_LOSSES | {"multi_margin_loss"}:
        return shape[1] if len(shape) > 1 else max(shape, default=0)
    return 2 if name in BINARY_LOSSES and one_each else 0
