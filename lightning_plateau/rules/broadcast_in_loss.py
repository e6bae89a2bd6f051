"""LP703: the loss compares every prediction with every target."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import Comparison, judged
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.tape import REGRESSION_LOSSES, Tape

_ELEMENTWISE = REGRESSION_LOSSES | {"soft_margin_loss", "hinge_embedding_loss", "kl_div"}


@dataclass(frozen=True)
class BroadcastInLoss(Rule):
    """The loss compares every prediction with every target.

    What it detects:
        A prediction of shape ``(N, 1)`` beside a target of shape ``(N,)``, or the reverse:
        broadcasting makes N × N differences of N samples. It is looked for in the loss functions
        and in a subtraction written by hand on the way to the loss. By hand, only tensors of
        equally many elements but different numbers of dimensions count, one of which was computed
        from the batch with parameters and the other without, or with no gradient (the value that
        a slow copy of the network gives): distances between all pairs, as contrastive losses and
        kernels use them, are left alone.

    Why it matters:
        Every prediction is pulled to all targets at once, so the model learns their mean and
        nothing else, while the loss looks plausible.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (32, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (32, 1))
        >>> sides = (Operand("operation", 0, "", (32, 1)), Operand("batch", 1, "1", (32,)))
        >>> run = history(tapes=[Tape(0, (fc, Operation(1, "mse_loss", "", sides)), root=1)])
        >>> BroadcastInLoss().check(run).message
        'mse_loss compares predictions (32, 1) with targets (32,): 1024 pairs of 32 samples'

    Remedies:
        Advice only: give both the same shape.

    Known limitations:
        With a batch of one sample nothing is broadcast, and nothing is seen.

    References:
        Humbatova et al., 2020, Taxonomy of Real Faults in Deep Learning Systems (ICSE): wrong shape
        of the output.
    """

    code: ClassVar[str] = "LP703"
    name: ClassVar[str] = "broadcast-in-loss"
    explains: ClassVar = (
        "LP302",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP414",
        "LP501",
        "LP801",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "every prediction is pulled to all targets, so only their mean is learned"

    def check(self, history: History) -> Finding | None:
        """Return the fault where broadcasting multiplies the pairs that the loss compares."""
        for tape in history.tapes:
            for comparison in judged(tape):
                if _multiplies(comparison) and _is_predicted(tape, comparison):
                    return self._report(history, tape, comparison)
        return None

    def _report(self, history: History, tape: Tape, comparison: Comparison) -> Finding:
        predicted, wanted = comparison.prediction.shape, comparison.target.shape
        pairs, samples = prod(_broadcast(predicted, wanted) or ()), prod(wanted)
        fix = "y = y.unsqueeze(-1)" if len(wanted) < len(predicted) else "y = y.squeeze(-1)"
        named = "a difference" if comparison.by_hand else comparison.operation.name
        return self.finding(
            history,
            1.0,
            f"{named} compares predictions {predicted} with targets {wanted}: "
            f"{pairs} pairs of {samples} samples",
            evidence=(
                Evidence("pairs compared", float(pairs), float(samples), comparison.operation.site),
            ),
            fix=f"give both the same shape before the loss: {fix}, or pred = pred.view_as(y)",
            where=comparison.operation.site,
            step=tape.step,
        )


def _multiplies(comparison: Comparison) -> bool:
    predicted, wanted = comparison.prediction.shape, comparison.target.shape
    made = _broadcast(predicted, wanted)
    if made is None or prod(made) <= max(prod(predicted), prod(wanted)):
        return False
    if not comparison.by_hand:
        return comparison.operation.name in _ELEMENTWISE
    same_values = [n for n in predicted if n != 1] == [n for n in wanted if n != 1]
    return same_values and len(predicted) != len(wanted)


def _is_predicted(tape: Tape, comparison: Comparison) -> bool:
    """Whether the prediction was made from the batch: learned centers, for one, are not."""
    made_by = tape.producer(comparison.prediction)
    return made_by is not None and any(
        operand.source == "batch" for step in tape.ancestors(made_by) for operand in step.operands
    )


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape that two shapes broadcast to; None where they do not."""
    made = []
    for first, second in zip_longest(one[::-1], other[::-1], fillvalue=1):
        if first != second and 1 not in {first, second}:
            return None
        made.append(second if first == 1 else first)
    return tuple(made[::-1])
