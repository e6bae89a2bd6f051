"""LP702: the output's activation is not the one that the loss expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import exp, inf, log, log1p, prod
from typing import ClassVar

from lightning_plateau.core.cosines import scale_of_cosines
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import Comparison, comparisons, judged
from lightning_plateau.core.rule import Remark, Rule
from lightning_plateau.core.tape import (
    LINEAR_OPERATIONS,
    REGRESSION_LOSSES,
    Operand,
    Operation,
    Tape,
)

_SIGMOIDS = frozenset({"sigmoid", "hardsigmoid", "expit"})
_TANHS = frozenset({"tanh", "hardtanh", "softsign"})
_HALF_BOUNDED = frozenset({"relu", "relu6"})
_SOFTMAXES = frozenset({"softmax", "softmin", "gumbel_softmax"})
_NON_NEGATIVE = frozenset({"relu", "relu6", "softplus"})
_AVERAGED = REGRESSION_LOSSES - {"poisson_nll_loss", "gaussian_nll_loss"}
_NORMALIZED = 0.05
"""Deviation from Σ exp = 1 above which values are no log-probabilities, in any precision."""
_MANY = 16
"""Answers of which not all can be zero by chance."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What does not fit, how sure it is, and what to write instead."""

    confidence: float
    fault: str
    fix: str
    evidence: Evidence
    severity: Severity = Severity.ERROR


@dataclass(frozen=True)
class ActivationLossMismatch(Rule):
    """The output's activation is not the one that the loss expects.

    What it detects:
        ==========================================  ==============================================
        loss                                        given
        ==========================================  ==============================================
        ``binary_cross_entropy_with_logits``        the output of a sigmoid, softmax or rectifier
        ``binary_cross_entropy``                    values outside [0, 1]
        ``cross_entropy``                           the output of a sigmoid, tanh or rectifier
        ``cross_entropy``                           cosines so close to each other that the loss
                                                    cannot fall below a quarter of guessing
        ``cross_entropy``                           log-probabilities (harmless, but needless)
        ``cross_entropy``                           several classes a sample as its targets
        ``cross_entropy``, ``nll_loss``             a single class
        ``nll_loss``, ``kl_div``, ``ctc_loss``      probabilities, or raw scores
        ``binary_cross_entropy``                    a softmax, for several labels a sample
        squared, absolute and Huber errors          a rectifier's output for negative targets, or
                                                    one that is zero for every sample
        any                                         softmax over a single unit
        ==========================================  ==============================================

    Why it matters:
        The loss has its minimum elsewhere than at the right answer, or the gradient vanishes before
        it gets there.

    Example:
        >>> from lightning_plateau.core.tape import Tape
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (8, 1))
        >>> sigmoid = Operation(1, "sigmoid", "act", (Operand("operation", 0),), (8, 1))
        >>> sides = (Operand("operation", 1, shape=(8, 1)), Operand("batch", 1, "1", (8, 1)))
        >>> loss = Operation(2, "binary_cross_entropy_with_logits", "", sides)
        >>> finding = ActivationLossMismatch().check(
        ...     history(tapes=[Tape(0, (fc, sigmoid, loss), 2)])
        ... )
        >>> finding.certainty, finding.where
        ('certain', 'act (sigmoid)')

    Remedies:
        Advice only: change the output layer or the loss. No optimizer setting can mend it.

    Known limitations:
        Losses written by hand are only judged where they are differences to a target. Whether a
        bounded output can reach its targets is LP705's question.

    References:
        Wardat et al., 2022, DeepDiagnosis (ICSE). Schoop et al., 2021, UMLAUT (CHI).
    """

    code: ClassVar[str] = "LP702"
    name: ClassVar[str] = "activation-loss-mismatch"
    remark: ClassVar[Remark] = "while-falling"
    explains: ClassVar = (
        "LP104",
        "LP201",
        "LP301",
        "LP302",
        "LP304",
        "LP306",
        "LP401",
        "LP402",
        "LP405",
        "LP406",
        "LP407",
        "LP414",
        "LP501",
        "LP502",
        "LP706",
        "LP707",
        "LP709",
        "LP801",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "the loss has its minimum elsewhere, or its gradient vanishes on the way"

    least_share: float = 0.25

    def check(self, history: History) -> Finding | None:
        """Return the surest mismatch between an output and its loss."""
        found = [
            (tape, comparison, mismatch)
            for tape in history.tapes
            for comparison in judged(tape)
            for judge in (_JUDGES if comparison in comparisons(tape) else _JUDGES_OF_SCORES)
            if (mismatch := judge(comparison, tape.origin(comparison.prediction))) is not None
        ]
        if not found:
            return self._cosines(history)
        tape, comparison, mismatch = max(found, key=lambda entry: entry[2].confidence)
        source = tape.origin(comparison.prediction)
        where = source.site if source is not None else comparison.operation.site
        finding = self.finding(
            history,
            mismatch.confidence,
            f"{comparison.operation.name} {mismatch.fault} ({where}, step {tape.step})",
            evidence=(mismatch.evidence,),
            fix=mismatch.fix,
            where=where,
            step=tape.step,
        )
        return replace(finding, severity=mismatch.severity)

    def _cosines(self, history: History) -> Finding | None:
        """Return the fault where classes are told apart by cosines that are hardly scaled."""
        tape = history.last_tape
        if tape is None:
            return None
        for loss in _entropies(tape):
            given = loss.operands[0]
            scale, classes = scale_of_cosines(tape, given), given.shape[1]
            least = inf if scale is None else log1p((classes - 1) * exp(-2.0 * scale))
            # Contrastive losses are at home with cosines over a temperature of up to a half.
            if scale is None or scale > 1.0 or least < self.least_share * log(classes):
                continue
            return self.finding(
                history,
                0.95,
                f"cross_entropy is given cosines between -{scale:.3g} and {scale:.3g}: with "
                f"{classes} scores so close the loss cannot go below {least:.3g}; guessing gives "
                f"{log(classes):.3g}",
                evidence=(Evidence("largest score", scale, None, loss.site),),
                fix="divide the cosines by a temperature (0.05 to 0.2, or a learned one)",
                where=loss.site,
                step=tape.step,
            )
        return None


def _entropies(tape: Tape) -> Iterator[Operation]:
    """Yield the cross-entropies over several classes that the loss is made of."""
    if tape.root is None or not 0 <= tape.root < len(tape):
        return
    for operation in tape.ancestors(tape.operations[tape.root]):
        shape = operation.operands[0].shape if operation.operands else ()
        if operation.name == "cross_entropy" and len(shape) > 1 and shape[1] > 1:
            yield operation


def _sigmoid_twice(comparison: Comparison, source: Operation | None) -> Mismatch | None:
    if comparison.operation.name != "binary_cross_entropy_with_logits" or source is None:
        return None
    if source.name not in _SIGMOIDS | _SOFTMAXES:
        return None
    return Mismatch(
        1.0,
        f"takes logits and applies a sigmoid itself, but received the output of a {source.name}",
        "return the logits: leave the activation out of forward",
        _activation_fact(source),
    )


def _rectified_logits(comparison: Comparison, source: Operation | None) -> Mismatch | None:
    if comparison.operation.name != "binary_cross_entropy_with_logits" or source is None:
        return None
    low = comparison.target.statistics.get("minimum", 1.0)
    if source.name not in _NON_NEGATIVE or not low < 0.5:
        return None
    return Mismatch(
        1.0,
        f"takes logits of either sign, but received the output of a {source.name}: no sample can "
        "get a probability below a half",
        "return the logits: leave the activation out of forward",
        _activation_fact(source),
    )


def _several_classes(comparison: Comparison, _: Operation | None) -> Mismatch | None:
    given, target = comparison.prediction, comparison.target
    if comparison.operation.name != "cross_entropy" or given.shape != target.shape:
        return None
    classes = _labels_a_sample(target)
    if classes is None:
        return None
    return Mismatch(
        0.8,
        f"shares one probability among all classes, but was given {classes:.2g} of them a sample",
        "several labels at a time need binary_cross_entropy_with_logits",
        Evidence("classes a sample", classes, 1.0),
    )


def _outside_unit_interval(comparison: Comparison, _: Operation | None) -> Mismatch | None:
    seen = comparison.prediction.statistics
    low, high = seen.get("minimum", 0.0), seen.get("maximum", 0.0)
    if comparison.operation.name != "binary_cross_entropy" or (low >= 0.0 and high <= 1.0):
        return None
    if not (abs(low) < inf and abs(high) < inf):
        return None
    return Mismatch(
        1.0,
        f"takes probabilities, but received values from {low:.3g} to {high:.3g}",
        "use binary_cross_entropy_with_logits, which applies the sigmoid itself",
        Evidence("values given to the loss", high if high > 1.0 else low, 1.0 if high > 1.0 else 0),
    )


def _squashed_logits(comparison: Comparison, source: Operation | None) -> Mismatch | None:
    if comparison.operation.name != "cross_entropy" or source is None:
        return None
    if source.name == "log_softmax":
        return Mismatch(
            1.0,
            "received log-probabilities; it applies log_softmax again, which changes nothing",
            "use nll_loss, or leave log_softmax out of forward",
            _activation_fact(source),
            Severity.INFO,
        )
    shape = comparison.prediction.shape
    classes = shape[1] if len(shape) > 1 else 0
    width = 1.0 if source.name in _SIGMOIDS else 2.0 if source.name in _TANHS else inf
    if width == inf and source.name not in _HALF_BOUNDED:
        return None
    least = log1p((classes - 1) * exp(-width)) if classes > 2 else 0.0
    limit = f": with {classes} scores so close the loss cannot go below {least:.3g}"
    sure = source.name in _SIGMOIDS or least > 0.0
    return Mismatch(
        (1.0 if sure else 0.8) if width < inf else 0.7,
        f"takes unbounded logits, but received the output of a {source.name}"
        + (limit if least > 0.0 else ""),
        "return the logits: leave the activation out of forward",
        _activation_fact(source),
    )


def _no_log_probabilities(comparison: Comparison, source: Operation | None) -> Mismatch | None:
    name, given = comparison.operation.name, comparison.prediction
    # A divergence may be taken the other way round: then its second side is learned.
    if name not in {"nll_loss", "kl_div"} or given is not comparison.operation.operands[0]:
        return None
    if (source is not None and source.name in _SOFTMAXES) or _are_probabilities(given):
        return Mismatch(
            1.0,
            "takes log-probabilities, but received probabilities",
            "use log_softmax in place of softmax"
            + ("" if name == "kl_div" else ", or give the logits to cross_entropy"),
            Evidence("|Σ over classes − 1|", given.statistics.get("row_sum_error", 0.0)),
        )
    error = given.statistics.get("row_exponential_sum_error", 0.0)
    if name == "kl_div" or error <= _NORMALIZED or source is None or len(given.shape) < 2:
        return None
    if source.name == "log_softmax":
        fault = "received log-probabilities that are normalized over the wrong dimension"
        dim = source.attributes.get("dim")
        fix = f"normalize over the classes: log_softmax(dim=1), here dim={dim}"
    else:
        fault = "takes log-probabilities, but received raw scores"
        fix = "give the scores to cross_entropy, or apply log_softmax(dim=1) to them first"
    sure = source.name in LINEAR_OPERATIONS | {"log_softmax", "relu", "add", "sigmoid", "tanh"}
    return Mismatch(1.0 if sure else 0.8, fault, fix, Evidence("|Σ exp − 1|", error, _NORMALIZED))


def _one_class(comparison: Comparison, _: Operation | None) -> Mismatch | None:
    shape = comparison.prediction.shape
    if comparison.operation.name not in {"cross_entropy", "nll_loss"} or shape[1:2] != (1,):
        return None
    return Mismatch(
        1.0,
        f"received shape {shape}: with a single class it is always 0",
        "one output needs binary_cross_entropy_with_logits; or make one output for each class",
        Evidence("classes", 1.0, 2.0),
    )


def _softmax_of_one(comparison: Comparison, source: Operation | None) -> Mismatch | None:
    if source is None or source.name not in _SOFTMAXES | {"log_softmax"}:
        return None
    dim = source.attributes.get("dim")
    dim = 1 if dim is None and len(source.shape) > 1 else dim
    if not isinstance(dim, int) or not -len(source.shape) <= dim < len(source.shape):
        return None
    if source.shape[dim] != 1 or len(source.shape) < 2 or dim % len(source.shape) == 0:
        return None
    return Mismatch(
        1.0,
        f"received a softmax over a single unit: shape {source.shape}, always 1",
        "use a sigmoid for one unit, or make one unit for each class",
        Evidence("units that softmax runs over", 1.0, 2.0),
    )


def _rectified_regression(comparison: Comparison, source: Operation | None) -> Mismatch | None:
    named = comparison.by_hand or comparison.operation.name in _AVERAGED
    if not named or source is None or source.name not in _NON_NEGATIVE:
        return None
    seen = comparison.target.statistics
    low, spread = seen.get("minimum", 0.0), seen.get("std", 0.0)
    if not -inf < low < -0.05 * abs(spread):
        return _died(comparison, source) if spread > 0 else None
    return Mismatch(
        1.0,
        f"compares targets down to {low:.3g} with the output of a {source.name}, never below 0",
        "leave the activation out after the last layer of a regression",
        Evidence("smallest target", low, 0.0, source.site),
    )


def _died(comparison: Comparison, source: Operation) -> Mismatch | None:
    """Return the mismatch where the rectifier answers zero, whatever it is asked."""
    given = comparison.prediction
    high = given.statistics.get("maximum", inf)
    if source.name not in _HALF_BOUNDED or high != 0.0 or prod(given.shape) < _MANY:
        return None
    return Mismatch(
        0.85,
        f"is given the output of a {source.name}, which is zero for every sample and passes no "
        "gradient: what ends a network may not die",
        "leave the activation out after the last layer, or use softplus",
        Evidence("largest answer", high, None, source.site),
    )


def _are_probabilities(given: Operand) -> bool:
    seen = given.statistics
    return seen.get("row_sum_error", inf) <= 1e-3 and seen.get("minimum", -1.0) >= 0.0


def _activation_fact(source: Operation) -> Evidence:
    return Evidence(f"{source.name} before the loss", 1.0, 0.0, source.site)


def _raw_alignment(comparison: Comparison, source: Operation | None) -> Mismatch | None:
    given, seen = comparison.prediction, comparison.prediction.statistics
    if comparison.operation.name != "ctc_loss":
        return None
    high, fault = seen.get("maximum", 0.0), ""
    if source is not None and source.name in _SOFTMAXES:
        fault = "received probabilities"
    elif high > _NORMALIZED or (source is not None and source.name in LINEAR_OPERATIONS):
        fault = "received raw scores"
    elif source is not None and _normalizes_others(source, given):
        fault = f"received some that are normalized over dim {source.attributes.get('dim')}"
    if not fault:
        return None
    return Mismatch(
        1.0,
        f"takes log-probabilities of the classes, but {fault}",
        "apply log_softmax(dim=-1), over the classes, before the loss",
        Evidence("largest value, a log-probability is never above 0", high, 0.0),
    )


def _normalizes_others(source: Operation, given: Operand) -> bool:
    """Whether a log-softmax ran over a dimension that is not that of the classes, the last."""
    dim = source.attributes.get("dim")
    if source.name != "log_softmax" or not isinstance(dim, int) or not given.shape:
        return False
    known = -len(source.shape) <= dim < len(source.shape)
    return known and source.shape[dim] != given.shape[-1]


def _shared_probability(comparison: Comparison, source: Operation | None) -> Mismatch | None:
    given, target = comparison.prediction, comparison.target
    if comparison.operation.name != "binary_cross_entropy" or given.shape != target.shape:
        return None
    if source is None or source.name not in _SOFTMAXES or not _are_probabilities(given):
        return None
    labels = _labels_a_sample(target)
    if labels is None:
        return None
    return Mismatch(
        1.0,
        f"was given {labels:.2g} labels a sample, but received the output of a {source.name}, "
        "which shares one probability among all",
        "several labels at a time need a sigmoid for each: binary_cross_entropy_with_logits",
        Evidence("labels a sample", labels, 1.0, source.site),
    )


def _labels_a_sample(target: Operand) -> float | None:
    """Return how many labels a sample has, where some have several; None for one, or numbers."""
    seen = target.statistics
    hot = seen.get("integer") == 1.0 and (seen.get("minimum"), seen.get("maximum")) == (0.0, 1.0)
    if not hot or len(target.shape) < 2:
        return None
    labels = seen.get("mean", 0.0) * target.shape[1]
    # A row of zeros alone may leave a sample out; more than a one in a row cannot be meant so.
    several = labels > 1.0 + _NORMALIZED or seen.get("row_sum_error", 0.0) > 1.0 + _NORMALIZED
    return labels if several else None


_Judge = Callable[[Comparison, Operation | None], Mismatch | None]
_JUDGES: tuple[_Judge, ...] = (
    _one_class,
    _softmax_of_one,
    _sigmoid_twice,
    _rectified_logits,
    _several_classes,
    _outside_unit_interval,
    _squashed_logits,
    _no_log_probabilities,
    _raw_alignment,
    _shared_probability,
    _rectified_regression,
)
_JUDGES_OF_SCORES = (_sigmoid_twice, _no_log_probabilities)
"""What is judged beside a target that a network made: what holds whatever the target is."""
