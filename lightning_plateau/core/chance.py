"""The loss of guessing: what a model reaches that ignores its input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import History
from lightning_plateau.core.labels import Labels, labels
from lightning_plateau.core.loss_scale import AGREEMENT, is_squared, loss_scale, number_of_terms
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.roles import whole_leaf
from lightning_plateau.core.samples import samples_of
from lightning_plateau.core.signal import LOSS, TARGETS
from lightning_plateau.core.tape import BINARY_LOSSES, CLASS_LOSSES, Operand, Tape
from lightning_plateau.core.trend import MAGNITUDE

FEWEST_RARE = 50
"""Samples outside the most frequent class that tell frequencies well enough."""
CLEARLY_LOWER = 0.9
FEWEST_RECENT = 50
FEWEST_TARGETS = 16
"""Samples whose targets tell how far all of them spread."""


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
@derived
def guessing(history: History) -> Guess | None:
    """Return the loss of the best constant guess, from the loss call; None where unknown.

    It is ln K for K classes of equal frequency, the entropy of the targets' mean for a binary
    cross-entropy, and the variance of the targets for a mean squared error, of each output about
    its own mean where there are several; as many times as much where the loss is a sum, or
    multiplied by a number. Unknown where several losses are added, a loss is weighted, or its kind
    tells nothing. The variance is that of all targets that were counted, where the loss compares
    with them as they are, and else of those on the tapes.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
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
    guess = _of_all_targets(history, known[-1][0])
    guess = guess or best_guess([comparison for comparison, _ in known])
    return None if guess is None else replace(guess, loss=guess.loss * _scale(history))


def _of_all_targets(history: History, latest: Comparison) -> Guess | None:
    """Return the guess by the targets that were counted; None where the loss takes others."""
    seen, counted = samples_of(history), history[TARGETS]
    if latest.operation.name != "mse_loss" and not latest.by_hand:
        return None
    tape = history.last_tape
    if not len(counted) or seen is None or seen.target is None or tape is None:
        return None
    leaf = whole_leaf(tape, latest.target)
    number, variance = (counted.column(name).last for name in ("samples", "variance"))
    if leaf is None or leaf.name != seen.target.name or len(latest.operation.operands) > 2:
        return None
    return Guess(variance) if number >= FEWEST_TARGETS and variance > 0 else None


def best_guess(seen: Sequence[Comparison]) -> Guess | None:
    """Return the loss of the best constant guess of the targets; None where unknown.

    Args:
        seen: The same comparison on one tape or several, the latest last; at least one.
    """
    latest = seen[-1]
    same = [one for one in seen if one.operation.name == latest.operation.name]
    return _guess(latest, same)


@derived
def chance_of_each(history: History) -> float | None:
    """Return the loss of guessing each of several outputs by its own mean; None where unknown.

    It is that of ``guessing``, but for binary cross-entropies: the entropy of a mean that varies
    from output to output is lower than that of the mean of all, by half the variance between them
    over ``mean * (1 - mean)``, to second order.

    Example:
        >>> chance_of_each(History()) is None
        True
    """
    guess, known = guessing(history), [one for one, _ in _comparisons(history)]
    if guess is None or known[-1].operation.name not in BINARY_LOSSES:
        return None if guess is None else guess.loss
    targets = [one.target for one in known if one.operation.name == known[-1].operation.name]
    moments = _pooled([target.statistics for target in targets])
    mean, variance = moments or (0.0, 0.0)
    if not 0.0 < mean < 1.0:
        return guess.loss
    between = max(0.0, variance - _variance_of_each(targets, variance))
    gained = between / (2.0 * mean * (1.0 - mean))
    return max(0.0, guess.loss - gained * _scale(history))


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
    classes = 2 if known[-1][0].operation.name in BINARY_LOSSES else guess.classes if guess else 0
    if classes < 2:
        return guess
    counted = _without_ignored(counted, known[-1][0])
    rare = float(counted.totals.sum() - counted.totals.max())
    informed = counted.entropy + counted.entropy_error
    if rare < FEWEST_RARE or informed > CLEARLY_LOWER * math.log(classes):
        return guess
    return Guess(informed * _scale(history), classes, uneven=True)


def _without_ignored(counted: Labels, latest: Comparison) -> Labels:
    """Return labels without the class that stands for padding, which the loss leaves out."""
    ignored = latest.operation.attributes.get("ignore_index")
    kept = np.array([name != str(ignored) for name in counted.names])
    if kept.all() or not kept.any():
        return counted
    names = tuple(name for name in counted.names if name != str(ignored))
    return replace(counted, counts=counted.counts[:, kept], names=names)


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
    if not 0.0 < guess.loss < CLEARLY_LOWER * math.log(guess.classes) * _scale(history):
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
def _comparisons(history: History) -> list[tuple[Comparison, float]]:
    """Return of each tape the one comparison that the loss is made of, and its factor."""
    accumulated = history.profile.accumulate_grad_batches
    found = (_comparison(tape, accumulated) for tape in history.tapes)
    return [one for one in found if one is not None]


@derived
def summed(history: History) -> bool:
    """Whether the loss is a sum over the batch that nothing divides, so that it grows with it.

    Such a loss cannot be compared with that of validation batches, which are of another size.

    Example:
        >>> summed(History())
        False
    """
    return any(
        number > 1 and scale >= number / 2
        for comparison, scale in _comparisons(history)
        if (number := number_of_terms(comparison))
    )


def _scale(history: History) -> float:
    """Return the typical factor of the loss; 1 where it is a mean."""
    return float(np.median([scale for _, scale in _comparisons(history)] or [1.0]))


def _comparison(tape: Tape, accumulated: int) -> tuple[Comparison, float] | None:
    """Return the one comparison that the loss is made of, and its factor; None where unknown."""
    found = [one for one in comparisons(tape) if one.prediction.source == "operation"]
    if len(found) != 1:
        return None
    if found[0].by_hand and not is_squared(tape, found[0]):
        return None
    scale = loss_scale(tape, found[0], accumulated)
    return None if scale is None else (found[0], scale)


def _guess(latest: Comparison, seen: Sequence[Comparison]) -> Guess | None:
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
        return Guess(_variance_of_each([one.target for one in seen], variance))
    return None


def _variance_of_each(targets: Sequence[Operand], variance: float) -> float:
    """Return the variance of each of several outputs about its own mean; else ``variance``.

    The best constant answer to images is their mean image, not their mean brightness.
    """
    known = [one.statistics.get("column_std", math.nan) for one in targets]
    several = math.prod(targets[-1].shape[1:]) > 1
    within = [std**2 for std in known if 0.0 < std < MAGNITUDE]
    return min(variance, sum(within) / len(within)) if several and within else variance


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
