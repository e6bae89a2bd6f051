"""LP101: the input is not normalized."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.roles import Entry, entries
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import DATA_MAXIMUM, DATA_MEAN, DATA_MINIMUM, DATA_STD
from lightning_plateau.core.tape import NORMALIZATIONS, PASSING_OPERATIONS, Tape

_PASSING = PASSING_OPERATIONS | {"add"}


@dataclass(frozen=True, slots=True)
class _Scale:
    """Location and spread of what enters a layer."""

    where: str
    leaf: str
    mean: float
    std: float
    minimum: float
    maximum: float

    @property
    def looks_like_pixels(self) -> bool:
        return self.minimum >= 0.0 and 1.0 < self.maximum <= 255.0 and self.std > 10.0

    def excess(self, largest: float, smallest: float, most_offset: float) -> float:
        """Return by what factor the worst of the limits is broken; below 1 where none is."""
        if not (self.std > 0.0 and math.isfinite(self.std) and math.isfinite(self.mean)):
            return 0.0  # a constant is LP103's, a NaN LP102's
        offset = abs(self.mean) / self.std
        return max(self.std / largest, smallest / self.std, offset / most_offset)


@dataclass(frozen=True)
class InputNotNormalized(Rule):
    """The input is not normalized.

    What it detects:
        What reaches the first layer with weights has a standard deviation above 10 or below 0.01,
        or a mean more than 3 standard deviations away from zero. It is measured where it enters the
        layer: an input that ``training_step`` or the model scales first is judged as it is then.
        Indices that go through an embedding, and layers whose output is normalized at once (so that
        the scale of the input cancels), are left alone.

    Why it matters:
        The gradient of the first layer grows with the input, that of the others does not: no one
        learning rate suits both. Large inputs saturate or kill the first units; a large mean makes
        the loss a long narrow valley.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> operands = (Operand("batch", 0, "image"), Operand("parameter", name="fc.weight"))
        >>> tape = Tape(0, (Operation(0, "linear", "fc", operands),))
        >>> def pixels(mean, std, maximum):
        ...     batch = {DATA_MEAN: mean, DATA_STD: std, DATA_MINIMUM: 0.0, DATA_MAXIMUM: maximum}
        ...     return history({s: {"image": [v]} for s, v in batch.items()}, tapes=[tape])
        >>> finding = InputNotNormalized().check(pixels(33.3, 78.6, 255.0))
        >>> finding.message
        'the input of fc (linear) has mean 33.3 and standard deviation 78.6'
        >>> finding.fix.partition(",")[0]
        'divide the pixels by 255'
        >>> InputNotNormalized().check(pixels(0.13, 0.31, 1.0)) is None
        True

    Remedies:
        standardize-input subtracts mean and divides by standard deviation, kept as buffers so that
        inference does the same.

    Known limitations:
        Mean and standard deviation are of the whole tensor: one wild feature among many tame ones
        shows only if it dominates. Without a tape (compiled models) it says nothing.

    References:
        LeCun et al., 1998, Efficient BackProp. Schoop et al., 2021, UMLAUT (CHI).
    """

    code: ClassVar[str] = "LP101"
    name: ClassVar[str] = "input-not-normalized"
    requires: ClassVar = (DATA_MEAN, DATA_STD, DATA_MINIMUM, DATA_MAXIMUM)
    explains: ClassVar = (
        "LP104",
        "LP204",
        "LP205",
        "LP206",
        "LP207",
        "LP301",
        "LP302",
        "LP304",
        "LP306",
        "LP307",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP405",
        "LP406",
        "LP407",
        "LP414",
        "LP501",
        "LP502",
        "LP706",
        "LP707",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("standardize-input",)
    why: ClassVar[str] = (
        "the first layer's gradients grow with the input, those of the others do not"
    )

    largest_std: float = 10.0
    smallest_std: float = 0.01
    most_offset: float = 3.0

    def check(self, history: History) -> Finding | None:
        """Return the fault at the entry whose input is furthest from normal."""
        limits = (self.largest_std, self.smallest_std, self.most_offset)
        found = [(scale.excess(*limits), scale) for scale in _scales(history)]
        excess, worst = max(found, key=lambda pair: pair[0], default=(0.0, None))
        if worst is None or excess <= 1.0:
            return None
        return self.finding(
            history,
            min(0.85, 0.6 + 0.15 * math.log10(excess)),
            f"the input of {worst.where} has mean {worst.mean:.3g} and standard deviation "
            f"{worst.std:.3g}",
            evidence=(
                Evidence(
                    "standard deviation of the input", worst.std, self.largest_std, worst.leaf
                ),
                Evidence("mean of the input", worst.mean, self.most_offset * worst.std, worst.leaf),
            ),
            fix=("divide the pixels by 255, then " if worst.looks_like_pixels else "")
            + "subtract the training set's mean and divide by its standard deviation",
            where=worst.where,
        )


def _scales(history: History) -> Iterator[_Scale]:
    tape = history.last_tape
    if tape is None:
        return
    met = entries(tape)
    normalized = _normalized(tape) if met else frozenset()
    for entry in met:
        if entry.operation.index not in normalized:
            scale = _scale(history, entry)
            if scale is not None:
                yield scale


def _normalized(tape: Tape) -> frozenset[int]:
    """Return the operations whose output goes straight into a normalization."""
    found: set[int] = set()
    for operation in tape.named(NORMALIZATIONS):
        if operation.operands:
            source = tape.origin(operation.operands[0], _PASSING)
            found.update({source.index} if source is not None else ())
    return frozenset(found)


def _scale(history: History, entry: Entry) -> _Scale | None:
    site = entry.operation.site
    if entry.leaf:
        signals = (DATA_MEAN, DATA_STD, DATA_MINIMUM, DATA_MAXIMUM)
        values = [_typical(history[signal].column(entry.leaf).values) for signal in signals]
        return _Scale(site, entry.leaf, *values)
    if entry.source is None or entry.source.name in NORMALIZATIONS:
        return None
    made = entry.source.statistics
    values = [made.get(name, math.nan) for name in ("mean", "std", "minimum", "maximum")]
    return _Scale(site, ", ".join(sorted(entry.leaves)), *values)


def _typical(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan
