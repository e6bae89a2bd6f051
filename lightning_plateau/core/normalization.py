"""Batch normalization as a training uses it: its calls on the tape, its statistics by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from lightning_plateau.core.derived import derived
from lightning_plateau.core.history import Floats, History, Series, Steps
from lightning_plateau.core.layers import called
from lightning_plateau.core.signal import (
    NORMALIZATION_BATCH_MEAN,
    NORMALIZATION_BATCH_VARIANCE,
    NORMALIZATION_RUNNING_MEAN,
    NORMALIZATION_RUNNING_VARIANCE,
)
from lightning_plateau.core.tape import Operand, Operation, Tape

BATCH_NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})
"""Kinds of modules that normalize by the batch."""

NEGLIGIBLE = 1e-12


@dataclass(frozen=True, slots=True)
class BatchNormCall:
    """One call of batch normalization on the way to the loss.

    Attributes:
        operation: The call.
        given: What it normalizes.
        scale: Name of the parameter γ; ``""`` where it has none.
        training: Whether it normalizes by the batch rather than by its running statistics.
        momentum: Weight of a batch in the running statistics; None where unknown.
    """

    operation: Operation
    given: Operand
    scale: str
    training: bool
    momentum: float | None

    @property
    def name(self) -> str:
        """The layer, for people."""
        return self.operation.layer or self.operation.site

    @property
    def channels(self) -> int:
        """Number of channels; 0 where unknown."""
        return self.given.shape[1] if len(self.given.shape) > 1 else 0


@derived
def batch_norm_calls(tape: Tape) -> tuple[BatchNormCall, ...]:
    """Return the calls of batch normalization that the loss was computed by, in order.

    Example:
        >>> x, scale = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="bn.weight")
        >>> norm = Operation(0, "batch_norm", "bn", (x, scale), attributes={"training": True})
        >>> [(call.name, call.scale, call.channels) for call in batch_norm_calls(Tape(0, (norm,)))]
        [('bn', 'bn.weight', 4)]
    """
    return tuple(_calls(tape))


def _calls(tape: Tape) -> Iterator[BatchNormCall]:
    for operation in called(tape, {"batch_norm"}):
        if not operation.operands:
            continue
        given, *others = operation.operands
        weights = [operand.name for operand in others if operand.source == "parameter"]
        momentum = operation.attributes.get("momentum")
        yield BatchNormCall(
            operation,
            given,
            weights[0] if weights else "",
            operation.attributes.get("training") is not False,
            float(momentum) if isinstance(momentum, int | float) else None,
        )


@dataclass(frozen=True, slots=True)
class Moments:
    """What a layer's running statistics say beside what its batches say.

    Attributes:
        step: The sampled step.
        running_mean: Root mean square of the running means.
        running_variance: Mean of the running variances.
        batch_mean: The same of the batch's means.
        batch_variance: The same of the batch's variances.
    """

    step: int
    running_mean: float
    running_variance: float
    batch_mean: float
    batch_variance: float

    @property
    def untouched(self) -> bool:
        """Whether the running statistics are still what every layer starts with: 0 and 1."""
        return self.running_mean == 0.0 and self.running_variance == 1.0

    @property
    def disparity(self) -> float:
        """By what factor the scales differ, or by how many deviations the means; at least 1.

        It is what a unit of the batch becomes where running statistics are used in its place.
        """
        batch = math.sqrt(max(self.batch_variance, NEGLIGIBLE))
        running = math.sqrt(max(self.running_variance, NEGLIGIBLE))
        apart = abs(self.batch_mean - self.running_mean) / max(min(batch, running), NEGLIGIBLE)
        return max(batch / running, running / batch, min(apart, 1.0 / NEGLIGIBLE))


@derived
def latest_moments(history: History) -> dict[str, Moments]:
    """Return, by layer, running and batch statistics at the latest sampled step that has both.

    Example:
        >>> from lightning_plateau.testing import history
        >>> run = history(
        ...     {
        ...         NORMALIZATION_RUNNING_MEAN: {"bn": [0.0, 0.0]},
        ...         NORMALIZATION_RUNNING_VARIANCE: {"bn": [1.0, 1.0]},
        ...         NORMALIZATION_BATCH_MEAN: {"bn": [0.0, 0.0]},
        ...         NORMALIZATION_BATCH_VARIANCE: {"bn": [9.0, 16.0]},
        ...     }
        ... )
        >>> seen = latest_moments(run)["bn"]
        >>> seen.untouched, seen.disparity
        (True, 4.0)
    """
    signals = (
        NORMALIZATION_RUNNING_MEAN,
        NORMALIZATION_RUNNING_VARIANCE,
        NORMALIZATION_BATCH_MEAN,
        NORMALIZATION_BATCH_VARIANCE,
    )
    tables = [history[signal] for signal in signals]
    steps, labels = _shared_steps(tables), _shared_labels(tables)
    values = np.stack([_part(table, steps, labels) for table in tables])
    known = np.asarray(np.isfinite(values).all(axis=0))
    if not known.size:
        return {}
    rows = len(known) - 1 - known[::-1].argmax(axis=0)
    latest = values[:, rows, np.arange(len(labels))].T.tolist()
    seen = np.isfinite(latest).all(axis=1).tolist()
    at = zip(labels, steps[rows].tolist(), latest, seen, strict=True)
    return {label: Moments(step, *moments) for label, step, moments, known in at if known}


def _shared_steps(tables: Sequence[Series]) -> Steps:
    steps = [table.steps for table in tables]
    same = all(np.array_equal(steps[0], other) for other in steps[1:])
    return steps[0] if same else reduce(np.intersect1d, steps)


def _shared_labels(tables: Sequence[Series]) -> tuple[str, ...]:
    shared = set[str].intersection(*({*table.labels} for table in tables))
    return tuple(name for name in tables[1].labels if name in shared)


def _part(table: Series, steps: Steps, labels: tuple[str, ...]) -> Floats:
    """Return the values at ``steps`` of the columns ``labels``, ``[len(steps), len(labels)]``."""
    rows = table.values
    if len(steps) != len(table):
        rows = rows[np.searchsorted(table.steps, steps)]
    return rows if labels == table.labels else rows[:, [table.places[name] for name in labels]]
