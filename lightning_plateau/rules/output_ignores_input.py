"""LP707: what the network answers does not depend on its input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.fitting import ignored_inputs
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import EXPERIMENT_ZERO_INPUTS, LOSS
from lightning_plateau.core.tape import LINEAR_OPERATIONS, RECURRENCES, Operation, Tape

_LAYERS = LINEAR_OPERATIONS | RECURRENCES
_SHAPED_LIKE = frozenset({"expand_as", "view_as", "reshape_as", "type_as"})
"""Operations that take no more than the shape or the type of their second operand."""
_FRESH = frozenset(
    ["zeros", "ones", "full", "empty", "rand", "randn", "randint", "arange", "linspace", "eye"]
)


@dataclass(frozen=True)
class OutputIgnoresInput(Rule):
    """What the network answers does not depend on its input.

    What it detects:
        A prediction that is compared with targets of the batch, and that no tensor of the batch had
        a part in: it was computed from parameters and from numbers made on the way (``zeros``,
        ``randn``, ``zeros_like``) alone. Or regression answers that are the same for every sample,
        to a thousandth of how the targets differ. Or the experiment zero-inputs, in which the loss
        stays the same whatever the inputs are.

    Why it matters:
        The best that can be learned is one answer for all, and the loss stays at that of guessing.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> weight, y = Operand("parameter", name="w"), Operand("batch", 1, "1", (8,))
        >>> noise = Operation(0, "randn", "", (), (8, 4))
        >>> fc = Operation(1, "linear", "fc", (Operand("operation", 0), weight), (8, 3))
        >>> loss = Operation(2, "cross_entropy", "", (Operand("operation", 1), y))
        >>> tape = Tape(0, (noise, fc, loss), root=2)
        >>> finding = OutputIgnoresInput().check(history(tapes=[tape]))
        >>> finding.certainty, finding.message
        ('certain', 'the prediction of fc (linear) was made from 0 tensors of the batch')

    Remedies:
        Advice only: hand the batch to the network, and look for what cuts it off on the way.

    Known limitations:
        Where the way of the data cannot be followed (numpy, functions of autograd), nothing is
        certain. Classes are judged by the experiment, not by the spread of their scores.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks ("input-independent baseline").
    """

    code: ClassVar[str] = "LP707"
    name: ClassVar[str] = "output-ignores-input"
    requires: ClassVar = (LOSS, EXPERIMENT_ZERO_INPUTS)
    explains: ClassVar = (
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP414",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "the best that can be learned is one answer for all samples"

    least_spread: float = 1e-3

    def check(self, history: History) -> Finding | None:
        """Return the fault where no answer rests on the data."""
        tape = history.last_tape
        if tape is None:
            return self._tried(history)
        aimed = [one for one in comparisons(tape) if tape.from_batch(one.target) is not None]
        blind = [made for one in aimed if (made := _made_blindly(tape, one)) is not None]
        if blind and len(blind) == len(aimed):
            return self.finding(
                history,
                1.0,
                f"the prediction of {blind[0].site} was made from 0 tensors of the batch",
                evidence=(Evidence("tensors of the batch that it was made from", 0.0, 1.0),),
                fix="compute the prediction from the batch that training_step is given",
                where=blind[0].site,
                step=tape.step,
            )
        return self._constant(history, aimed) or self._tried(history)

    def _constant(self, history: History, aimed: list[Comparison]) -> Finding | None:
        """Return the fault where the answers of a regression are the same for all samples.

        Of several outputs, such as an image, each is compared over the samples.
        """
        for one in aimed:
            over = "column_std" if prod(one.prediction.shape[1:]) > 1 else "std"
            spread = one.prediction.statistics.get(over, math.nan)
            targets = one.target.statistics.get(over, math.nan)
            numbers = one.prediction.shape == one.target.shape and one.prediction.shape[:1] > (1,)
            if numbers and targets > 0 and spread <= self.least_spread * targets:
                return self.finding(
                    history,
                    0.8,
                    f"the predictions differ by {spread:.2g} (standard deviation), the targets by "
                    f"{targets:.3g}",
                    evidence=(Evidence("spread of the predictions", spread / targets, 1e-3),),
                    fix=_PRINT,
                    where=one.operation.site,
                )
        return None

    def _tried(self, history: History) -> Finding | None:
        """Return what the experiment says."""
        if not ignored_inputs(history):
            return None
        return self.finding(
            history,
            0.85,
            "the loss changes by less than 0.0001 % when the inputs are zeros, or those of others",
            fix=_PRINT,
        )


def _made_blindly(tape: Tape, comparison: Comparison) -> Operation | None:
    """Return what made the prediction, where layers did, and no data had a part in it."""
    made = tape.producer(comparison.prediction)
    if made is None or not {*_sources(tape, made)} <= {"parameter", "fresh"}:
        return None
    return made if any(one.name in _LAYERS for one in tape.ancestors(made)) else None


def _sources(tape: Tape, made: Operation) -> Iterator[str]:
    """Yield the kinds of tensors that the values of ``made`` come from."""
    fresh = {name for name in tape.names if _is_fresh(name)}
    wanted = {made.index}
    for index in range(made.index, -1, -1):
        if index not in wanted:
            continue
        operation = tape.operations[index]
        if operation.name in fresh:
            yield "fresh"
            continue
        if not operation.operands:
            yield "other"  # numbers from who knows where: torch.tensor(array)
        shaped = operation.name in _SHAPED_LIKE
        for operand in operation.operands[:1] if shaped else operation.operands:
            if operand.source == "operation":
                wanted.add(operand.index)
            else:
                yield operand.source


def _is_fresh(name: str) -> bool:
    """Whether a call makes numbers of its own: only the shape is taken from what it is given."""
    new = name.endswith("_like") or name.startswith("new_")
    return name in _FRESH or (new and name not in ("new_tensor", "bernoulli_like"))


_PRINT = "print the output of each layer for two samples: from where on is it the same?"
