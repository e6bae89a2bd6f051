"""LP708: samples mix within the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.batch_axis import SPLITTING, axis_of, batch_axes, samples, straddles
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.fitting import MIXED, mixing
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import EXPERIMENT_BATCH_MIXING, LOSS
from lightning_plateau.core.tape import SOFTMAXES, Operand, Operation, Tape

_SEQUENCES = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
_ATTENTION = frozenset({"multi_head_attention_forward", "scaled_dot_product_attention"})
_MIXING = SOFTMAXES | _SEQUENCES | SPLITTING
_BATCH_FIRST = "arg8"
"""Where torch's own functions take ``batch_first``."""


@dataclass(frozen=True)
class SamplesMix(Rule):
    """Samples mix within the batch.

    What it detects:
        On the way to a loss that has a target for each sample: a softmax over the samples, a view
        that cuts samples into pieces and puts pieces of several where one belongs, a recurrent
        layer or attention that runs along the samples in place of time: with certainty where the
        loader shuffles, so that the order of the samples means nothing. Or the experiment
        batch-mixing, in which predictions change when other samples are left out.

    Why it matters:
        What is predicted for a sample depends on its neighbours, which are others each time.

    Example:
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="w")
        >>> fc = Operation(0, "linear", "", (x, weight), (8, 3))
        >>> logits = Operand("operation", 0, shape=(8, 3))
        >>> over = Operation(1, "softmax", "", (logits,), (8, 3), attributes={"dim": 0})
        >>> sides = Operand("operation", 1, shape=(8, 3)), Operand("batch", 1, "1", (8,))
        >>> loss = Operation(2, "nll_loss", "", sides)
        >>> SamplesMix().check(history(tapes=[Tape(0, (fc, over, loss), root=2)])).message
        'softmax runs over the 8 samples of the batch (dim 0 of 8×3)'

    Remedies:
        Advice only: ``dim=1`` or ``dim=-1``; ``batch_first=True``; ``transpose`` in place of
        ``view``.

    Known limitations:
        Sizes tell the dimensions apart: where time is as long as the batch is large, nothing is
        said. Networks that compare the samples of a batch on purpose do what the rule looks for;
        attention among samples that have no second dimension, as they do it, is told only while
        training fails.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks ("use backprop to chart
        dependencies").
    """

    code: ClassVar[str] = "LP708"
    name: ClassVar[str] = "samples-mix"
    requires: ClassVar = (LOSS, EXPERIMENT_BATCH_MIXING)
    explains: ClassVar = (
        "LP106",
        "LP302",
        "LP306",
        "LP401",
        "LP405",
        "LP414",
        "LP602",
        "LP702",
        "LP801",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "what is predicted for a sample depends on its neighbours in the batch"

    confidence_of_attention: float = 0.85
    confidence_in_order: float = 0.6

    def check(self, history: History) -> Finding | None:
        """Return the fault where an operation on the way to the loss mixes samples."""
        for tape in history.tapes[:1]:
            size, axes = samples(tape), batch_axes(tape)
            if size < 2:
                continue
            mixing_if_at_all = called(tape, _MIXING)
            found = next((one for one in mixing_if_at_all if self._mixes(one, size, axes)), None)
            if found is not None:
                return self._report(history, tape, found, size)
            attention = [one for one in called(tape, _ATTENTION) if one.operands]
            along = [one for one in attention if _attends_samples(one, size, axes)]
            if along and len(along) == len(attention):
                return self._report(history, tape, along[0], size)
        return self._tried(history)

    def _mixes(self, operation: Operation, size: int, axes: Mapping[int, int]) -> bool:
        given = operation.operands[0] if operation.operands else None
        axis = axis_of(given, size, axes) if given is not None else None
        if given is None or axis is None:
            return False
        if operation.name in SOFTMAXES:
            others = [extent for place, extent in enumerate(given.shape) if place != axis]
            return max(others, default=1) > 1 and size not in others and _dim(operation) == axis
        if operation.name in _SEQUENCES:
            first = operation.attributes.get(_BATCH_FIRST)
            return len(given.shape) == 3 and isinstance(first, bool) and axis == int(first)
        return operation.name in SPLITTING and straddles(given.shape, axis, operation.shape, size)

    def _report(self, history: History, tape: Tape, culprit: Operation, size: int) -> Finding:
        given = culprit.operands[0].shape
        shape = "×".join(map(str, given))
        dim = given.index(size)
        confidence, fix = 1.0, f"give {culprit.name} the dimension of the classes: dim=-1"
        message = f"{culprit.name} runs over the {size} samples of the batch (dim {dim} of {shape})"
        ordered = history.profile.shuffled is not True
        if culprit.name in _ATTENTION and (ordered or not _has_time(given)):
            confidence = self.confidence_of_attention
        elif culprit.name in _SEQUENCES and ordered:
            confidence = self.confidence_in_order
        if culprit.name in _ATTENTION | _SEQUENCES:
            fix = "pass batch_first=True to the layer, or transpose(0, 1) what it is given"
        elif culprit.name in SPLITTING:
            after = "×".join(map(str, culprit.shape))
            message = (
                f"{culprit.name} from {shape} to {after} mixes the {size} samples of the batch"
            )
            fix = "view and reshape keep the order of values: use transpose or permute"
        return self.finding(
            history,
            confidence,
            message,
            evidence=(Evidence("samples that are mixed", float(size), 1.0, culprit.site),),
            fix=fix,
            where=culprit.site,
            step=tape.step,
        )

    def _tried(self, history: History) -> Finding | None:
        """Return what the experiment says, where no operation could be named."""
        change = mixing(history)
        if change is None or not change > MIXED:
            return None
        return self.finding(
            history,
            0.85,
            f"predictions change by {100 * change:.2g} % of their size when other samples of the "
            "batch are left out, in evaluation mode",
            evidence=(Evidence("change of predictions", change, MIXED),),
            fix="look for softmax(dim=0), a view in place of a transpose, and batch_first",
        )


def _has_time(shape: tuple[int, ...]) -> bool:
    """Whether samples have positions of their own that attention should have run along."""
    return len(shape) == 3 and shape[1] > 1


def _dim(operation: Operation) -> int | None:
    """Return the dimension that a softmax runs over, counted from the front."""
    rank = len(operation.operands[0].shape)
    dim = operation.attributes.get("dim")
    if dim is None:  # what torch takes where none is given
        return 0 if rank in (0, 1, 3) else 1
    return dim % rank if isinstance(dim, int) and rank else None


def _attends_samples(operation: Operation, size: int, axes: Mapping[int, int]) -> bool:
    given: Operand = operation.operands[0]
    axis, rank = axis_of(given, size, axes), len(given.shape)
    if axis is None:
        return False
    fused = operation.name == "multi_head_attention_forward"
    return axis == 0 and rank in (2, 3) if fused else rank >= 2 and axis == rank - 2
