"""LP705: the output cannot reach its targets."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import Comparison, comparisons
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.tape import REGRESSION_LOSSES, Operand, Operation, Tape

_JUDGED = REGRESSION_LOSSES - {"poisson_nll_loss", "gaussian_nll_loss"}
_CODOMAINS: dict[str, tuple[float, float]] = {
    "sigmoid": (0.0, 1.0),
    "expit": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "softmin": (0.0, 1.0),
    "gumbel_softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu6": (-inf, 6.0),  # below 0 it is LP702's affair, as with relu and softplus
    "logsigmoid": (-inf, 0.0),
    "elu": (-1.0, inf),
    "celu": (-1.0, inf),
    "selu": (-1.7581, inf),
    "gelu": (-0.17, inf),
    "silu": (-0.2785, inf),
    "mish": (-0.3089, inf),
}


@dataclass(frozen=True, slots=True)
class _Excess:
    """How far targets lie outside what an activation can give, in their standard deviations."""

    tape: Tape
    comparison: Comparison
    source: Operation
    codomain: tuple[float, float]
    target: float
    deviations: float
    mean_outside: bool


@dataclass(frozen=True)
class OutputRangeMismatch(Rule):
    """The output cannot reach its targets.

    What it detects:
        A regression loss, or a subtraction written by hand, that compares targets with the output
        of a sigmoid, tanh, softmax or another activation whose values are bounded on the side where
        the targets go on: by a quarter of their standard deviation at least. Certain where their
        mean is out of reach, or the furthest target by more than one standard deviation.

    Why it matters:
        The output saturates at its bound, where the gradient is zero, and the loss stays at what
        the unreachable targets leave.

    Example:
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (8, 1))
        >>> squashed = Operation(1, "sigmoid", "act", (Operand("operation", 0),), (8, 1))
        >>> seen = {"minimum": 25.0, "maximum": 346.0, "mean": 152.0, "std": 77.0}
        >>> sides = (Operand("operation", 1), Operand("batch", 1, "1", (8, 1), statistics=seen))
        >>> tape = Tape(0, (fc, squashed, Operation(2, "mse_loss", "", sides)), root=2)
        >>> finding = OutputRangeMismatch().check(history(tapes=[tape]))
        >>> finding.certainty, finding.message
        ('certain', 'act (sigmoid) gives values from 0 to 1, but the targets go up to 346')

    Remedies:
        Advice only: leave the activation out after the last layer of a regression, or scale the
        targets into its range.

    Known limitations:
        An output that is scaled or shifted after its activation is not judged. Only the targets of
        the sampled batches are seen.

    References:
        Wardat et al., 2022, DeepDiagnosis: Automatically Diagnosing Faults and Recommending
        Actionable Fixes in Deep Learning Programs (ICSE).
    """

    code: ClassVar[str] = "LP705"
    name: ClassVar[str] = "output-range-mismatch"
    explains: ClassVar = (
        "LP110",
        "LP302",
        "LP306",
        "LP401",
        "LP405",
        "LP406",
        "LP407",
        "LP414",
        "LP501",
        "LP502",
        "LP706",
        "LP707",
        "LP801",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "the output saturates at its bound, and no training brings it further"

    least_deviations: float = 0.25
    certain_deviations: float = 1.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where targets lie beyond the bounds of the output's activation."""
        found = [
            excess
            for tape in history.tapes
            for comparison in comparisons(tape)
            if (excess := _excess(tape, comparison)) is not None
        ]
        worst = max(found, key=lambda excess: excess.deviations, default=None)
        if worst is None or worst.deviations < self.least_deviations:
            return None
        certain = worst.mean_outside or worst.deviations > self.certain_deviations
        low, high = worst.codomain
        above = worst.target > high
        site = worst.source.site
        return self.finding(
            history,
            1.0 if certain else 0.8,
            f"{site} gives values from {low:.4g} to {high:.4g}, but the targets go "
            f"{'up' if above else 'down'} to {worst.target:.4g}",
            evidence=(Evidence("furthest target", worst.target, high if above else low, site),),
            fix=f"leave {worst.source.name} out after the last layer (a regression ends in a plain "
            "linear layer), or scale the targets into its range",
            where=site,
            step=worst.tape.step,
        )


def _excess(tape: Tape, comparison: Comparison) -> _Excess | None:
    if not comparison.by_hand and comparison.operation.name not in _JUDGED:
        return None
    source = tape.origin(comparison.prediction)
    codomain = _codomain(source)
    if source is None or codomain is None:
        return None
    low, high = codomain
    smallest, largest, mean, deviation = _moments(comparison.target)
    if not all(isfinite(value) for value in (smallest, largest, mean, deviation)):
        return None
    over, under = largest - high, low - smallest
    gap = max(over, under)
    if gap <= 0.0:
        return None
    spread = max(deviation, 1e-6 * max(abs(smallest), abs(largest)))
    return _Excess(
        tape,
        comparison,
        source,
        codomain,
        largest if over >= under else smallest,
        gap / spread,
        not low <= mean <= high,
    )


def _codomain(source: Operation | None) -> tuple[float, float] | None:
    """Return the bounds of what ``source`` can give; None where it has none."""
    if source is None:
        return None
    if source.name == "hardtanh":
        low, high = source.attributes.get("min_val", -1.0), source.attributes.get("max_val", 1.0)
        known = isinstance(low, int | float) and isinstance(high, int | float)
        return (float(low), float(high)) if known else None  # type: ignore[arg-type]
    if source.name in ("elu", "celu"):
        alpha = source.attributes.get("alpha", 1.0)
        return (-float(alpha), inf) if isinstance(alpha, int | float) else None
    return _CODOMAINS.get(source.name)


def _moments(target: Operand) -> tuple[float, float, float, float]:
    seen = target.statistics
    return (
        seen.get("minimum", inf),
        seen.get("maximum", inf),
        seen.get("mean", inf),
        seen.get("std", inf),
    )
