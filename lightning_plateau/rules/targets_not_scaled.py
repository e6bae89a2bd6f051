"""LP110: the targets of a regression are not scaled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rise import rise
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import REGRESSION_LOSSES, Tape
from lightning_plateau.core.updates import adaptive

_JUDGED = REGRESSION_LOSSES - {"poisson_nll_loss", "gaussian_nll_loss"}
LARGEST = 1e100


@dataclass(frozen=True, slots=True)
class _Moments:
    """Mean and spread of targets or predictions in one batch."""

    mean: float
    std: float

    @property
    def size(self) -> float:
        return max(abs(self.mean), self.std)

    @property
    def known(self) -> bool:
        return self.size < LARGEST  # neither NaN nor infinite


@dataclass(frozen=True, slots=True)
class _Journey:
    """Where the predictions have to go, where they began and where they are now."""

    where: str
    target: _Moments
    lowest: float
    begun: _Moments
    now: _Moments

    def far(self, large: float, ratio: float) -> bool:
        """Whether the way was long from the start, in the predictions' own measure."""
        begun, target = self.begun, self.target
        offset = abs(target.mean - begun.mean)
        return offset > max(large, 3 * begun.std) or target.std > ratio * max(1.0, begun.std)

    @property
    def share_of_mean(self) -> float:
        """How far the predictions' mean is still away, in standard deviations of the targets."""
        gap = abs(self.target.mean - self.now.mean)
        return gap / self.target.std if self.target.std > 0 else math.inf

    @property
    def share_of_std(self) -> float:
        """Spread of the predictions as a share of that of the targets."""
        return self.now.std / self.target.std if self.target.std > 0 else 1.0


@dataclass(frozen=True)
class TargetsNotScaled(Rule):
    """The targets of a regression are not scaled.

    What it detects:
        A squared or absolute error whose targets have a mean or a standard deviation of ten and
        more, far from where the predictions began, and predictions that have not arrived: for
        optimizers whose steps grow with the gradient, because the first gradients are as large as
        the targets and the training explodes; for Adam and its kin, because steps of the size of
        the learning rate take for ever. Or targets below a hundredth, beside which the steps
        themselves are coarse, and a loss that stays above that of guessing.

    Why it matters:
        A network begins with outputs about one. It spends the training on its way to the targets'
        mean, or is torn there at the first step.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (8, 1))
        >>> guess = Operand("operation", 0, "", (8, 1), statistics={"mean": 0.1, "std": 0.3})
        >>> seen = {"minimum": 25.0, "maximum": 346.0, "mean": 152.0, "std": 77.0}
        >>> sides = (guess, Operand("batch", 1, "1", (8, 1), statistics=seen))
        >>> tape = Tape(0, (fc, Operation(1, "mse_loss", "", sides)), root=1)
        >>> finding = TargetsNotScaled().check(history(loss=[29000.0] * 200, tapes=[tape]))
        >>> finding.message
        'the targets have mean 152 and standard deviation 77; predictions began with 0.1 and 0.3'
        >>> finding.fix
        'train on (y - 152) / 77, and undo it on the predictions'

    Remedies:
        Advice only: standardize the targets by the training set's mean and standard deviation, or
        take their logarithm where they are positive and span orders of magnitude.

    Known limitations:
        The targets are those of the sampled batches. Several outputs of different scale are judged
        by the moments of all of them together.

    References:
        LeCun et al., 1998, Efficient BackProp. van Hasselt et al., 2016, Learning values across
        many orders of magnitude (NeurIPS).
    """

    code: ClassVar[str] = "LP110"
    name: ClassVar[str] = "targets-not-scaled"
    requires: ClassVar = (LOSS,)
    explains: ClassVar = (
        "LP106",
        "LP201",
        "LP202",
        "LP203",
        "LP206",
        "LP301",
        "LP303",
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
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = (
        "a fresh network answers with numbers near 0: far targets make a long way, or huge "
        "gradients"
    )

    large: float = 10.0
    small: float = 0.01
    least_ratio: float = 10.0
    arrived_mean: float = 0.5
    arrived_std: float = 0.3

    def check(self, history: History) -> Finding | None:
        """Return the fault where predictions have not come to targets that lie far away."""
        way = _journey(history)
        if way is None:
            return None
        confidence = self._too_far(history, way) or self._too_near(history, way)
        if confidence == 0.0:
            return None
        target, begun = way.target, way.begun
        return self.finding(
            history,
            confidence,
            f"the targets have mean {target.mean:.4g} and standard deviation {target.std:.4g}; "
            f"predictions began with {begun.mean:.4g} and {begun.std:.4g}",
            evidence=(
                Evidence("size of the targets", target.size, self.large, way.where),
                Evidence("mean of the predictions now", way.now.mean, target.mean, way.where),
                Evidence(
                    "standard deviation of the predictions now",
                    way.now.std,
                    target.std,
                    way.where,
                ),
            ),
            fix=_fix(way),
            where=way.where,
        )

    def _too_far(self, history: History, way: _Journey) -> float:
        """Return the confidence that the targets are too large, 0.0 for none."""
        if way.target.size < self.large or not way.far(self.large, self.least_ratio):
            return 0.0
        sure = min(0.85, 0.5 + 0.15 * math.log10(way.target.size / self.large))
        if _exploded(history, way):
            return 0.0 if adaptive(history) else sure
        if way.share_of_mean > self.arrived_mean:
            return sure
        return sure - 0.15 if way.share_of_std < self.arrived_std else 0.0

    def _too_near(self, history: History, way: _Journey) -> float:
        """Return the confidence that the targets are too small, 0.0 for none."""
        if not 0.0 < way.target.size < self.small or way.begun.size < self.small:
            return 0.0
        chance, gone = chance_loss(history), progress(history[LOSS])
        if chance is None or not gone.rows or gone.now < 0.9 * chance:
            return 0.0
        return 0.6


def _journey(history: History) -> _Journey | None:
    """Return the way of the predictions in the first comparison that tells."""
    seen = [
        (comparison, _moments(comparison.target.statistics))
        for tape in history.tapes
        if (comparison := _regression(tape)) is not None
    ]
    targets = [moments for _, moments in seen if moments.known]
    if not seen or not targets:
        return None
    first, last = seen[0][0], seen[-1][0]
    begun = _moments(first.prediction.statistics)
    if not begun.known:
        return None
    return _Journey(
        first.operation.site,
        _pooled(targets),
        min(one.target.statistics.get("minimum", math.nan) for one, _ in seen),
        begun,
        _moments(last.prediction.statistics),
    )


def _regression(tape: Tape) -> Comparison | None:
    """Return the first comparison of ``tape`` that a regression makes."""
    found = (c for c in comparisons(tape) if c.by_hand or c.operation.name in _JUDGED)
    return next(found, None)


def _moments(statistics: Mapping[str, float]) -> _Moments:
    return _Moments(statistics.get("mean", math.nan), statistics.get("std", math.nan))


def _pooled(moments: list[_Moments]) -> _Moments:
    mean = sum(one.mean for one in moments) / len(moments)
    square = sum(one.std**2 + (one.mean - mean) ** 2 for one in moments) / len(moments)
    return _Moments(mean, math.sqrt(square))


def _exploded(history: History, way: _Journey) -> bool:
    """Whether the predictions flew past their targets, or the loss past its start."""
    up = rise(history)
    overshot = not way.now.known or way.now.size > 10 * way.target.size
    return overshot or up.broke or (up.rows > 0 and up.now > 1.5 * max(up.start, up.best) > 0)


def _fix(way: _Journey) -> str:
    mean, std = way.target.mean, way.target.std
    if not std > 0.0:
        return f"train on y / {way.target.size:.4g}, and undo it on the predictions"
    logarithm = way.lowest > 0.0 and std > mean
    minus = f"y - {mean:.4g}" if mean >= 0 else f"y + {-mean:.4g}"
    scaled = f"({minus}) / {std:.4g}" + (", or on log(y)" if logarithm else "")
    return f"train on {scaled}, and undo it on the predictions"
