"""LP105: labels lie outside the range that the loss can read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.roles import whole_leaf
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import DATA_MAXIMUM, DATA_MINIMUM, LOSS
from lightning_plateau.core.tape import BINARY_LOSSES, CLASS_LOSSES, Operand, Operation, Tape

ROUNDING = 1e-3
_SIGNED = {
    "cosine_embedding_loss": 2,
    "margin_ranking_loss": 2,
    "hinge_embedding_loss": 1,
    "soft_margin_loss": 1,
}
"""Losses whose labels are signs, and which of their operands holds them."""


@dataclass(frozen=True, slots=True)
class _Range:
    """What a loss can read, and what it was or will be given."""

    loss: Operation
    target: Operand
    low: float
    high: float
    ignored: float = math.nan

    def outside(self, lowest: float, highest: float) -> float | None:
        """Return the value that lies outside, or None; the ignored label lies nowhere."""
        if lowest < self.low - ROUNDING and lowest != self.ignored:
            return lowest
        if highest > self.high + ROUNDING and highest != self.ignored:
            return highest
        return None


@dataclass(frozen=True)
class LabelsOutOfRange(Rule):
    """Labels lie outside the range that the loss can read.

    What it detects:
        A class index below 0 or not below the number of classes that ``cross_entropy``,
        ``nll_loss`` or ``multi_margin_loss`` is given, ``ignore_index`` apart; a target outside
        [0, 1] in a binary cross-entropy; labels of 0 and 1 where a loss reads -1 and 1
        (``cosine_embedding_loss``, ``margin_ranking_loss``, ``hinge_embedding_loss``,
        ``soft_margin_loss``); zeros and ones where ``multilabel_margin_loss`` reads lists of label
        numbers that end with -1. Also in a later batch: when training died in it, and its
        labels lie outside the range while those of the batches before did not.

    Why it matters:
        On the CPU the loss raises an IndexError; on a GPU the device asserts somewhere later, and
        the process must be restarted. A binary cross-entropy with logits raises nothing at all:
        below 0 or above 1 the loss has no lower bound, and it falls for ever. Nor do losses of
        signs: a label of 0 counts for nothing, or for both.

    Example:
        >>> from lightning_plateau.testing import history
        >>> logits = Operand("operation", 0, shape=(32, 10))
        >>> labels = Operand("batch", 1, "1", (32,), "int64", {"minimum": 1.0, "maximum": 10.0})
        >>> tape = Tape(
        ...     0, (Operation(0, "linear"), Operation(1, "cross_entropy", "", (logits, labels)))
        ... )
        >>> finding = LabelsOutOfRange().check(history(tapes=[tape]))
        >>> finding.message
        'cross_entropy has 10 classes (labels 0 to 9) but was given label 10 at step 0'
        >>> finding.fix
        'labels run from 1 to 10: subtract 1'

    Remedies:
        None: mend the labels or the number of outputs.

    Known limitations:
        Where labels lie on both sides of ``ignore_index``, an outlier beyond it hides the others.
        Binary cross-entropies that are reduced by hand may mask their targets and are not judged.

    References:
        Humbatova et al., 2020, Taxonomy of Real Faults in Deep Learning Systems (ICSE).
    """

    code: ClassVar[str] = "LP105"
    name: ClassVar[str] = "labels-out-of-range"
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (DATA_MINIMUM, DATA_MAXIMUM, LOSS)
    explains: ClassVar = (
        "LP201",
        "LP202",
        "LP203",
        "LP204",
        "LP301",
        "LP306",
        "LP401",
        "LP402",
        "LP705",
        "LP706",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "the loss cannot read such a label: it crashes, or takes it for another"

    def check(self, history: History) -> Finding | None:
        """Return the fault where a loss was given such labels, or training died on them."""
        for tape in history.tapes:
            for call in _ranges(tape):
                given = call.target.statistics
                lowest, highest = given.get("minimum", math.nan), given.get("maximum", math.nan)
                if call.outside(lowest, highest) is not None:
                    return self._report(history, tape.step, call, lowest, highest)
            for loss in filter(_without_signs, tape.losses):
                return self._report_signs(history, tape.step, loss)
            for loss in filter(_without_end, tape.losses):
                return self._report_without_end(history, tape.step, loss)
        return self._fatal_batch(history)

    def _report_signs(self, history: History, step: int, loss: Operation) -> Finding:
        return self.finding(
            history,
            1.0,
            f"{loss.name} reads -1 and 1, but was given labels of 0 and 1 at step {step}",
            evidence=(Evidence("lowest label", 0.0, -1.0, loss.site),),
            fix="map the labels from {0, 1} to {-1, 1}: y = 2 * y - 1",
            where=loss.site,
            step=step,
        )

    def _report_without_end(self, history: History, step: int, loss: Operation) -> Finding:
        return self.finding(
            history,
            1.0,
            f"{loss.name} reads the numbers of the labels that a sample has, ended by -1, and was "
            f"given no -1 at step {step}: as if each sample had every label",
            evidence=(Evidence("lowest label", 0.0, -1.0, loss.site),),
            fix="for zeros and ones, one for each label: F.binary_cross_entropy_with_logits, or "
            "F.multilabel_soft_margin_loss",
            where=loss.site,
            step=step,
        )

    def _fatal_batch(self, history: History) -> Finding | None:
        minima, maxima = history[DATA_MINIMUM], history[DATA_MAXIMUM]
        # Labels that the code maps before the loss may lie anywhere; they only count where
        # training stopped at them.
        last_loss = history[LOSS].steps[-1] if len(history[LOSS]) else -1
        for tape in history.tapes:
            for call in _ranges(tape):
                leaf = whole_leaf(tape, call.target)
                if leaf is None:
                    continue
                lows, highs = minima.column(leaf.name), maxima.column(leaf.name)
                if len(lows) < 2 or len(highs) < 2 or lows.steps[-1] <= last_loss:
                    continue
                before = zip(lows.values[:-1], highs.values[:-1], strict=False)
                if any(call.outside(low, high) is not None for low, high in before):
                    continue
                if call.outside(lows.last, highs.last) is not None:
                    return self._report(history, int(lows.steps[-1]), call, lows.last, highs.last)
        return None

    def _report(
        self, history: History, step: int, call: _Range, lowest: float, highest: float
    ) -> Finding:
        value = call.outside(lowest, highest) or 0.0
        counted = call.loss.name in CLASS_LOSSES | {"multi_margin_loss"}
        expects = (
            f"has {call.high + 1:.0f} classes (labels 0 to {call.high:.0f}) but was given label"
            if counted
            else "expects targets from 0 to 1 but was given"
        )
        limit = call.low if value < call.low else call.high
        return self.finding(
            history,
            1.0,
            f"{call.loss.name} {expects} {value:.4g} at step {step}",
            evidence=(Evidence("label", value, limit, call.loss.site),),
            fix=_fix(call, lowest, highest, counted),
            where=call.loss.site,
            step=step,
        )


def _ranges(tape: Tape) -> Iterator[_Range]:
    """Yield what each loss call on ``tape`` can read."""
    for loss in tape.losses:
        if len(loss.operands) < 2:
            continue
        scores, target = loss.operands[:2]
        whole = not target.dtype.startswith(("float", "bfloat", "complex"))
        if loss.name in CLASS_LOSSES | {"multi_margin_loss"} and whole and scores.shape:
            classes = scores.shape[1] if len(scores.shape) > 1 else scores.shape[0]
            yield _Range(loss, target, 0.0, classes - 1.0, _ignored(loss.attributes))
        elif loss.name in BINARY_LOSSES and _reduced_unweighted(loss):
            yield _Range(loss, target, 0.0, 1.0)


def _without_signs(loss: Operation) -> bool:
    """Whether a loss that reads signs was given zeros and ones."""
    place = _SIGNED.get(loss.name, len(loss.operands))
    if place >= len(loss.operands) or loss.attributes.get("reduction") not in ("mean", "sum", None):
        return False
    seen = loss.operands[place].statistics
    marks = seen.get("minimum"), seen.get("maximum"), seen.get("integer")
    return marks == (0.0, 1.0, 1.0)


def _without_end(loss: Operation) -> bool:
    """Whether a loss that reads lists of labels was given none that ends."""
    if loss.name != "multilabel_margin_loss" or len(loss.operands) < 2:
        return False
    target = loss.operands[1]
    return bool(target.shape) and target.shape[-1] > 2 and target.statistics.get("minimum", -1) >= 0


def _ignored(attributes: Mapping[str, object]) -> float:
    ignored = attributes.get("ignore_index", -100)
    return float(ignored) if isinstance(ignored, int | float) else math.nan


def _reduced_unweighted(loss: Operation) -> bool:
    """Whether no target can have been masked: neither by weights nor after the loss."""
    reduced = loss.attributes.get("reduction", "mean") in ("mean", "sum")
    return reduced and loss.attributes.get("weight", 0) is None


def _fix(call: _Range, lowest: float, highest: float, counted: bool) -> str:
    if not counted:
        if lowest == -1.0 and highest == 1.0:
            return "map the targets from {-1, 1} to {0, 1}: y = (y + 1) / 2"
        return "scale the targets to [0, 1], or use a regression loss"
    classes = call.high + 1
    if lowest == 1.0 and highest == classes:
        return f"labels run from 1 to {classes:.0f}: subtract 1"
    if lowest < 0 and call.outside(0.0, highest) is None:
        return f"drop label {lowest:.0f}, or pass ignore_index={lowest:.0f} to the loss"
    return f"give the model {highest + 1:.0f} outputs, or mend the labels"
