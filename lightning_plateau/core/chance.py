"""The loss of guessing: what a model reaches that ignores its input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.labels import labels
from lightning_plateau.core.objective import Comparison, closing, comparisons
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import BINARY_LOSSES, CLASS_LOSSES, Operation, Tape
from lightning_plateau.core.trend import MAGNITUDE

AGREEMENT = 0.1
FEWEST_RARE = 50
"""Samples outside the most frequent class that tell frequencies well enough."""
CLEARLY_LOWER = 0.9
FEWEST_RECENT = 50


def chance_loss(history: History) -> float | None:
    """Return the loss of the best constant guess; None where unknown. See ``guessing``.

    Example:
        >>> chance_loss(History()) is None
        True
    """
    guess = guessing(history)
    return guess.loss if guess is not None else None


@derived
def untrained_loss(history: History) -> float | None:
    """Return the loss of a model that has learned nothing; None where no loss is known.

    It is the first finite loss, or that of guessing where this is known and lower.

    Example:
        >>> from lightning_plateau.testing import history
        >>> untrained_loss(history(loss=[2.5, 1.0]))
        2.5
    """
    losses = history[LOSS].finite.values
    known = [float(losses[0])] if len(losses) else []
    chance = chance_loss(history)
    return min([*known, *([] if chance is None else [chance])], default=None)


@dataclass(frozen=True, slots=True)
class Guess:
    """The loss of the best constant guess.

    Attributes:
        loss: That loss.
        classes: Number of classes; 0 for numbers.
        uneven: Whether the loss is that of guessing classes by frequencies that were counted.
    """

    loss: float
    classes: int = 0
    uneven: bool = False


@derived
def guessing(history: History) -> Guess | None:
    """Return the loss of the best constant guess, from the loss call; None where unknown.

    It is ln K for K classes of equal frequency, the entropy of the targets' mean for a binary
    cross-entropy, and the variance of the targets for a mean squared error. Unknown where several
    losses are added, a loss is weighted or not averaged, or its kind tells nothing.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> weight, x = Operand("parameter", name="w"), Operand("batch", 0, "0")
        >>> fc = Operation(0, "linear", operands=(x, weight), shape=(8, 10))
        >>> logits, y = Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,))
        >>> loss = Operation(1, "cross_entropy", operands=(logits, y))
        >>> guessing(history(tapes=[Tape(0, (fc, loss), root=1)]))
        Guess(loss=2.302585092994046, classes=10, uneven=False)
    """
    known = _comparisons(history)
    if not known:
        return None
    return best_guess(known)


def best_guess(seen: Sequence[Comparison]) -> Guess | None:
    """Return the loss of the best constant guess of the targets; None where unknown.

    Args:
        seen: The same comparison on one tape or several, the latest last; at least one.
    """
    latest = seen[-1]
    same = [one for one in seen if one.operation.name == latest.operation.name]
    return _guess(latest, same)


@derived
def guessing_by_frequency(history: History) -> Guess | None:
    """Return the loss of the best constant guess, the frequencies of the classes considered.

    It is that of ``guessing``, or the entropy of the counted labels where this is clearly lower:
    one standard error is added, since a rare class is counted inexactly. Where the loss weighs the
    classes, their frequencies say nothing.

    Example:
        >>> guessing_by_frequency(History()) is None
        True
    """
    guess, counted, known = guessing(history), labels(history), _comparisons(history)
    if counted is None or not known or _weighted(history):
        return guess
    classes = 2 if known[-1].operation.name in BINARY_LOSSES else guess.classes if guess else 0
    if classes < 2:
        return guess
    rare = float(counted.totals.sum() - counted.totals.max())
    informed = counted.entropy + counted.entropy_error
    if rare < FEWEST_RARE or informed > CLEARLY_LOWER * math.log(classes):
        return guess
    return Guess(informed, classes, uneven=True)


@derived
def stopped_at_frequencies(history: History) -> tuple[Guess, float] | None:
    """Return the guess by frequency and the loss, where the loss has stopped at the guess.

    The loss is the mean of the recent half, for batches that lack the rare classes pull the median
    far below it. None where it lies elsewhere, where it is too noisy to tell, where the classes are
    about as frequent as each other, and in the first 100 steps.

    Example:
        >>> stopped_at_frequencies(History()) is None
        True
    """
    guess, losses = guessing_by_frequency(history), history[LOSS].finite.values
    recent = np.clip(losses[len(losses) // 2 :], -MAGNITUDE, MAGNITUDE)
    if guess is None or guess.classes < 2 or len(recent) < FEWEST_RECENT:
        return None
    if not 0.0 < guess.loss < CLEARLY_LOWER * math.log(guess.classes):
        return None
    level, error = float(recent.mean()), float(recent.std()) / math.sqrt(len(recent))
    share = level / guess.loss
    told = error <= AGREEMENT * guess.loss
    return (guess, level) if told and 1 - AGREEMENT / 2 <= share <= 1 + 2 * AGREEMENT else None


def _weighted(history: History) -> bool:
    return any(
        len(loss.operands) > 2 or loss.attributes.get("label_smoothing", 0.0) not in (0.0, None)
        for tape in history.tapes
        for loss in tape.losses
    )


@derived
def _comparisons(history: History) -> list[Comparison]:
    """Return of each tape the one comparison whose mean is the loss."""
    accumulated = history.profile.accumulate_grad_batches
    found = (_comparison(tape, accumulated) for tape in history.tapes)
    return [one for one in found if one is not None]


def _comparison(tape: Tape, accumulated: int) -> Comparison | None:
    """Return the one comparison whose mean is the loss, or None."""
    found = [one for one in comparisons(tape) if one.prediction.source == "operation"]
    if len(found) != 1:
        return None
    [comparison] = found
    if comparison.by_hand:
        return comparison if _is_mean_square(tape, comparison.operation) else None
    return comparison if _is_whole(tape, comparison.operation, accumulated) else None


def _is_whole(tape: Tape, loss: Operation, accumulated: int) -> bool:
    """Whether the averaged ``loss`` is all that backward started from, up to a tenth."""
    if loss.attributes.get("reduction", "mean") != "mean":
        return False
    if tape.root is None or not 0 <= tape.root < len(tape) or tape.root == loss.index:
        return True
    part = loss.statistics.get("mean", math.nan)
    whole = tape.operations[tape.root].statistics.get("mean", math.nan) * max(1, accumulated)
    return abs(whole - part) <= AGREEMENT * abs(part)


def _is_mean_square(tape: Tape, difference: Operation) -> bool:
    """Whether the mean of the squares of ``difference`` is the loss, and nothing else is."""
    index, names = difference.index, []
    path = closing(tape)  # what is only logged does not count
    while index != tape.root:
        users = [operation for operation in path if _uses(operation, index)]
        if len(users) != 1:
            return False
        names.append(users[0].name)
        index = users[0].index
    return (
        names[:1] in (["pow"], ["square"], ["mul"]) and names[1:2] == ["mean"] and len(names) <= 3
    )


def _uses(operation: Operation, index: int) -> bool:
    return any(o.source == "operation" and o.index == index for o in operation.operands)


def _guess(latest: Comparison, seen: Iterable[Comparison]) -> Guess | None:
    name, shape = latest.operation.name, latest.prediction.shape
    if name in CLASS_LOSSES:
        classes = shape[1] if len(shape) > 1 else max(shape, default=0)
        return Guess(math.log(classes), classes) if classes > 1 else None
    moments = _pooled([one.target.statistics for one in seen])
    if moments is None or len(latest.operation.operands) > 2:
        return None
    mean, variance = moments
    if name.startswith("binary_cross_entropy"):
        return Guess(_binary_entropy(mean), 2) if 0.0 < mean < 1.0 else None
    if (name == "mse_loss" or latest.by_hand) and variance > 0:
        return Guess(variance)
    return None


def _pooled(statistics: list[Mapping[str, float]]) -> tuple[float, float] | None:
    """Return mean and variance of the values that all ``statistics`` describe, equally weighted."""
    rows = [(one.get("mean", math.nan), one.get("std", math.nan)) for one in statistics]
    rows = [(mean, std) for mean, std in rows if abs(mean) < 1e100 and abs(std) < 1e100]
    if not rows:
        return None
    mean = sum(row[0] for row in rows) / len(rows)
    variance = sum(std**2 + (one - mean) ** 2 for one, std in rows) / len(rows)
    return mean, variance


def _binary_entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log1p(-share)
