"""LP103: the input is the same for every sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import Floats, History
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.roles import entries
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import (
    DATA_CONSTANT,
    DATA_MAXIMUM,
    DATA_MEAN,
    DATA_MINIMUM,
    DATA_STD,
)
from lightning_plateau.core.tape import Operand, Operation, Tape

_DRAWN = frozenset(
    ["rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "bernoulli", "normal"]
)


@dataclass(frozen=True)
class ConstantFeatures(Rule):
    """The input is the same for every sample.

    What it detects:
        All that the prediction is computed from (every tensor of the batch on its way) is the same
        for all samples of a batch, and from batch to batch, while the targets differ. Or the
        batches do differ, but what reaches the first weights is one and the same number
        everywhere: something on the way has wiped it out. Single features that are constant, as
        the border of an image is, are no fault and are not reported.

    Why it matters:
        A network that sees the same thing each time can only learn the best constant answer.

    Example:
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "image", (8, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (8, 3))
        >>> y = Operand("batch", 1, "label", (8,), "int64", {"mean": 1.0, "std": 0.8})
        >>> loss = Operation(1, "cross_entropy", "", (Operand("operation", 0, shape=(8, 3)), y))
        >>> seen = {DATA_CONSTANT: 1.0, DATA_MEAN: 0.0, DATA_MINIMUM: 0.0, DATA_MAXIMUM: 0.0}
        >>> series = {signal: {"image": [value] * 3} for signal, value in seen.items()}
        >>> finding = ConstantFeatures().check(history(series, tapes=[Tape(0, (fc, loss), root=1)]))
        >>> finding.message
        "tensor 'image' of the batch is 0 everywhere, in all of the 3 batches looked at"

    Remedies:
        None: mend the data set, or what is done to its samples.

    Known limitations:
        Features that are constant among others that vary carry no information either, but do no
        harm. Whole numbers that a computation made are not looked at.

    References:
        Ben Braiek and Khomh, 2023, Testing Feedforward Neural Networks Training Programs (TOSEM).
    """

    code: ClassVar[str] = "LP103"
    name: ClassVar[str] = "constant-features"
    requires: ClassVar = (DATA_CONSTANT, DATA_MEAN, DATA_STD, DATA_MINIMUM, DATA_MAXIMUM)
    explains: ClassVar = (
        "LP104",
        "LP106",
        "LP108",
        "LP302",
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP414",
        "LP501",
        "LP707",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "a network that sees the same each time can only learn one constant answer"

    fewest_batches: int = 3
    confidence: float = 0.95
    confidence_where_wiped_out: float = 0.9

    def check(self, history: History) -> Finding | None:
        """Return the fault where nothing tells the samples apart."""
        tape = history.last_tape
        compared = None if tape is None else next(iter(comparisons(tape)), None)
        if tape is None or compared is None or not _targets_vary(history):
            return None
        constant = {name for name in history[DATA_MEAN].labels if self._is_constant(history, name)}
        leaves = _leaves(tape, compared) if constant else []
        if leaves and constant.issuperset(leaves):
            return self._report(history, leaves[0])
        return self._wiped_out(history)

    def _is_constant(self, history: History, name: str) -> bool:
        """Whether the batch's tensor ``name`` is the same for all samples seen."""
        lowest, highest, mean, share = (
            history[signal].column(name).values
            for signal in (DATA_MINIMUM, DATA_MAXIMUM, DATA_MEAN, DATA_CONSTANT)
        )
        lengths = {len(lowest), len(highest), len(mean), len(share)}
        if (
            len(lengths) > 1
            or len(mean) < max(1, self.fewest_batches)
            or not np.isfinite(mean).all()
        ):
            return False
        if not (lowest[-1] == highest[-1] or share[-1] == 1.0):
            return False
        same = bool(np.all((lowest == highest) | (share == 1.0)))
        return same and _is_one(mean) and _is_one(lowest) and _is_one(highest)

    def _report(self, history: History, name: str) -> Finding:
        batches = len(history[DATA_MEAN].column(name))
        low, high = history[DATA_MINIMUM].column(name).last, history[DATA_MAXIMUM].column(name).last
        says = f"{low:.4g} everywhere" if low == high else "the same for every sample"
        return self.finding(
            history,
            self.confidence,
            f"tensor '{name}' of the batch is {says}, in all of the {batches} batches looked at",
            evidence=(Evidence(DATA_CONSTANT.tag, 1.0, None, f"batch[{name}]"),),
            fix="compare two samples of the data set: does __getitem__ use its index, and does "
            "what prepares a sample leave it anything (no division of integers, no empty slice)?",
            where=f"batch[{name}]",
        )

    def _wiped_out(self, history: History) -> Finding | None:
        """Return the fault where the batch varies and what enters the network does not."""
        if len(history.tapes) < 2:
            return None
        found = [entry for tape in history.tapes for entry in entries(tape)]
        sources = [entry.source for entry in found if entry.source is not None and not entry.leaf]
        if not found or len(sources) < len(found) or not all(_is_flat(one) for one in sources):
            return None
        source, entry = sources[-1], found[-1]
        value = source.statistics["mean"]
        return self.finding(
            history,
            self.confidence_where_wiped_out,
            f"the input of {entry.operation.site} is {value:.4g} everywhere: {source.site} left "
            "nothing of it",
            evidence=(Evidence("standard deviation of the input", 0.0, None, source.site),),
            fix=f"look at what {source.site} does to the batch before the first layer",
            where=source.site,
        )


def _leaves(tape: Tape, compared: Comparison) -> list[str]:
    """Return the tensors that the prediction comes from; none where others or chance have a say."""
    made = tape.producer(compared.prediction)
    before = () if made is None else tape.ancestors(made)
    operands: list[Operand] = [operand for one in before for operand in one.operands]
    if any(operand.source == "other" for operand in operands) or _drawn(before):
        return []
    return sorted({operand.name for operand in operands if operand.source == "batch"})


def _drawn(operations: Iterable[Operation]) -> bool:
    return any(operation.name in _DRAWN for operation in operations)


def _targets_vary(history: History) -> bool:
    seen = [one.target.statistics for tape in history.tapes for one in comparisons(tape)[:1]]
    means = {one.get("mean", 0.0) for one in seen}
    return len(means) > 1 or any(one.get("std", 0.0) > 0.0 for one in seen)


def _is_one(values: Floats) -> bool:
    """Whether ``values`` are one and the same, rounding apart."""
    return bool(np.allclose(values, values[0], rtol=1e-5, atol=0.0))


def _is_flat(operation: Operation) -> bool:
    return operation.statistics.get("std") == 0.0 and "mean" in operation.statistics
