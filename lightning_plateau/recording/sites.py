"""Activation statistics as series: one column an operation, named for people."""

from __future__ import annotations

from collections import Counter

from lightning_plateau.core import signal
from lightning_plateau.core.signal import Signal
from lightning_plateau.core.tape import (
    ACTIVATIONS,
    LINEAR_OPERATIONS,
    NORMALIZATIONS,
    RECURRENCES,
    Operation,
    Tape,
)

_STATISTICS: dict[str, Signal] = {
    "mean": signal.ACTIVATION_MEAN,
    "std": signal.ACTIVATION_STD,
    "non_finite": signal.ACTIVATION_NON_FINITE,
    "dead_units": signal.ACTIVATION_DEAD,
    "saturated": signal.ACTIVATION_SATURATED,
}
_LAYERS = (
    ACTIVATIONS
    | LINEAR_OPERATIONS
    | NORMALIZATIONS
    | RECURRENCES
    | {"embedding", "scaled_dot_product_attention"}
)
MOST = 2000
"""Sites that are followed; an unrolled loop has the same few again and again."""


def site_labels(operations: tuple[Operation, ...]) -> dict[int, str]:
    """Return a unique name of each operation that is followed, by its index.

    Example:
        >>> twice = (Operation(0, "relu", "act"), Operation(1, "relu", "act"))
        >>> site_labels(twice)
        {0: 'act (relu)', 1: 'act (relu)#2'}
    """
    counts: Counter[str] = Counter()
    labels: dict[int, str] = {}
    for operation in operations:
        if operation.name not in _LAYERS or len(labels) >= MOST:
            continue
        counts[operation.site] += 1
        count = counts[operation.site]
        labels[operation.index] = operation.site if count == 1 else f"{operation.site}#{count}"
    return labels


def activation_rows(tape: Tape) -> dict[Signal, dict[str, float]]:
    """Return one row of each activation signal, by label."""
    rows: dict[Signal, dict[str, float]] = {
        which: {} for which in (*_STATISTICS.values(), signal.ACTIVATION_MAXIMUM)
    }
    for index, label in site_labels(tape.operations).items():
        statistics = tape.operations[index].statistics
        for name, which in _STATISTICS.items():
            if name in statistics:
                rows[which][label] = statistics[name]
        if "maximum" in statistics:
            rows[signal.ACTIVATION_MAXIMUM][label] = max(
                abs(statistics["minimum"]), abs(statistics["maximum"])
            )
    return rows
