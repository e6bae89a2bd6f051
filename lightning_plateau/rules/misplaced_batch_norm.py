"""LP608: a batch norm on the output, one layer's norm in two places, or one norm after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_plateau.core.evaluation_gap import evaluation_gap
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.normalization import BatchNormCall, batch_norm_calls
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.rule import Remark, Rule
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS
from lightning_plateau.core.tape import (
    LINEAR_OPERATIONS,
    PASSING_OPERATIONS,
    SHAPE_OPERATIONS,
    SOFTMAXES,
    SQUASHERS,
    Tape,
)

_OUTPUT = PASSING_OPERATIONS | SOFTMAXES | SQUASHERS


@dataclass(frozen=True)
class MisplacedBatchNorm(Rule):
    """A batch norm stands where it does harm, or nothing.

    What it detects:
        A batch norm on the output that a loss compares with targets of the batch; one batch norm
        that is applied after different layers, which is certain where validation shows less than
        half of what the first epoch has learned; and, as a remark, a batch norm directly after
        another. Projections of contrastive methods, whose losses have no targets, may end in one.

    Why it matters:
        On the output, predictions have the mean and spread of γ and β in every batch, whatever is
        in it. A norm in two places has one pair of running statistics for two distributions, and
        evaluation gets neither. A second norm in a row does nothing.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> weight = Operand("parameter", name="fc.weight", shape=(1, 4))
        >>> fc = Operation(0, "linear", "fc", (Operand("batch", 0, "0"), weight), (8, 1))
        >>> norm = Operation(
        ...     1, "batch_norm", "bn", (Operand("operation", 0, shape=(8, 1)),), (8, 1)
        ... )
        >>> sides = (Operand("operation", 1, shape=(8, 1)), Operand("batch", 1, "1", (8, 1)))
        >>> tape = Tape(0, (fc, norm, Operation(2, "mse_loss", "", sides)), root=2)
        >>> MisplacedBatchNorm().check(history(tapes=[tape])).message
        'the batch norm bn normalizes the output that mse_loss compares with its targets, at step 0'

    Remedies:
        Advice only: leave it out, or give each place a norm of its own.

    Known limitations:
        A batch norm on the logits of a classifier can do well; both are only said while training
        fails. A network that is applied twice as a whole (siamese) is no misplacement.

    References:
        Ioffe and Szegedy, 2015, Batch Normalization (ICML). Humbatova et al., 2020, Taxonomy of
        Real Faults in Deep Learning Systems (ICSE).
    """

    code: ClassVar[str] = "LP608"
    name: ClassVar[str] = "misplaced-batch-norm"
    severity: ClassVar[Severity] = Severity.WARNING
    remark: ClassVar[Remark] = "while-falling"
    requires: ClassVar = (LOSS, VALIDATION_LOSS)
    explains: ClassVar = (
        "LP106",
        "LP110",
        "LP306",
        "LP401",
        "LP405",
        "LP602",
        "LP801",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "it forces one mean and one spread on what should differ"

    on_numbers: float = 0.7
    on_classes: float = 0.45
    in_two_places: float = 0.6
    least_share: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault at the first norm that is out of place, the worst kind first."""
        tape = history.last_tape
        if tape is None:
            return None
        calls = [call for call in batch_norm_calls(tape) if call.training]
        return (
            self._on_the_output(history, tape, calls)
            or self._in_two_places(history, tape, calls)
            or self._in_a_row(history, tape, calls)
        )

    def _on_the_output(
        self, history: History, tape: Tape, calls: list[BatchNormCall]
    ) -> Finding | None:
        norms = {call.operation.index: call for call in calls}
        for comparison in comparisons(tape):
            made = tape.origin(comparison.prediction, _OUTPUT)
            if (
                made is None
                or made.index not in norms
                or tape.from_batch(comparison.target) is None
            ):
                continue
            loss, name = comparison.operation.name, norms[made.index].name
            classes = "cross_entropy" in loss or loss == "nll_loss"
            return self.finding(
                history,
                self.on_classes if classes else self.on_numbers,
                f"the batch norm {name} normalizes the output that {loss} compares with its "
                f"targets, at step {tape.step}",
                evidence=(Evidence("batch norms on the output", 1.0, 0.0, name),),
                fix=f"leave the batch norm {name} out: end in the linear layer",
                where=name,
                step=tape.step,
            )
        return None

    def _in_two_places(
        self, history: History, tape: Tape, calls: list[BatchNormCall]
    ) -> Finding | None:
        places: dict[str, set[str]] = {}
        for call in calls:
            if call.scale and (weight := _weight_before(tape, call)):
                places.setdefault(call.scale, set()).add(weight)
        shared = {scale: weights for scale, weights in places.items() if len(weights) > 1}
        if not shared:
            return None
        scale, weights = next(iter(shared.items()))
        name = scale.rpartition(".")[0] or scale
        gap = evaluation_gap(history)
        suffers = gap is not None and gap.share >= self.least_share
        return self.finding(
            history,
            1.0 if suffers else self.in_two_places,
            f"the batch norm {name} is applied in {len(weights)} places: after "
            f"{', '.join(sorted(weights)[:3])}",
            evidence=(Evidence("places of one batch norm", float(len(weights)), 1.0, name),),
            fix=f"give each place a batch norm of its own: {name} keeps one pair of running "
            "statistics",
            where=name,
            step=tape.step,
        )

    def _in_a_row(self, history: History, tape: Tape, calls: list[BatchNormCall]) -> Finding | None:
        pairs = list(_pairs(tape, calls))
        if not pairs:
            return None
        first, second = pairs[0]
        found = self.finding(
            history,
            1.0,
            f"the batch norm {second.name} normalizes what {first.name} has just normalized, "
            f"at step {tape.step}",
            evidence=(Evidence("batch norms in a row", float(len(pairs)), 0.0, second.name),),
            fix=f"leave the batch norm {second.name} out",
            where=second.name,
            step=tape.step,
        )
        return replace(found, severity=Severity.INFO, explains=())


def _pairs(tape: Tape, calls: list[BatchNormCall]) -> Iterator[tuple[BatchNormCall, BatchNormCall]]:
    norms = {call.operation.index: call for call in calls}
    for call in calls:
        source = tape.origin(call.given, SHAPE_OPERATIONS)
        first = norms.get(source.index) if source is not None else None
        if first is not None and first.channels == call.channels:
            yield first, call


def _weight_before(tape: Tape, call: BatchNormCall) -> str:
    """Return the weight of the layer that is directly before ``call``; ``""`` for none."""
    layer = tape.origin(call.given)
    if layer is None or layer.name not in LINEAR_OPERATIONS:
        return ""
    weights = (o.name for o in layer.operands if o.source == "parameter" and len(o.shape) > 1)
    return next(weights, "")
