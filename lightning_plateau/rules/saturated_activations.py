"""LP502: sigmoids and tanhs are saturated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import ACTIVATION_SATURATED
from lightning_plateau.core.stages import hidden_activations
from lightning_plateau.core.tape import LOSSES, SQUASHERS, Operation, Tape


@dataclass(frozen=True)
class SaturatedActivations(Rule):
    """Sigmoids or tanhs are so far out that they pass hardly any gradient.

    What it detects:
        A sigmoid or tanh between two layers whose mean slope, taken from the moments of its output,
        is less than a twentieth of its largest one, on the first sampled step or on the latest two.
        For other squashing functions: inputs outside ±5. On the output it counts only where it was
        so before the first step. Gates, which are multiplied with something, are meant to saturate.

    Why it matters:
        The gradient is multiplied by that slope: what lies before a saturated layer learns at a
        twentieth of the speed, or not at all.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> def layer(index, given):
        ...     weight = Operand("parameter", name=f"{index}.weight", shape=(8, 8))
        ...     return Operation(index, "linear", f"{index}", (given, weight), (32, 8))
        >>> seen = {"mean": 0.0, "std": 0.995}
        >>> act = Operation(1, "tanh", "act", (Operand("operation", 0),), statistics=seen)
        >>> calls = layer(0, Operand("batch", 0)), act, layer(2, Operand("operation", 1))
        >>> SaturatedActivations().check(history(tapes=[Tape(0, calls, root=2)])).message
        'act (tanh) is saturated: its slope is 1 % of its largest, since the first step'

    Remedies:
        reinitialize gives the weights before it the size that the activation needs;
        replace-activation puts a rectifier in its place; decay-learning-rate where long steps drove
        it there. Normalization before the activation cures it for good.

    Known limitations:
        A mean over the whole layer: few live units among many saturated ones are enough to keep it
        silent. The gates within torch's recurrent layers are not looked at.

    References:
        Glorot and Bengio, 2010, Understanding the difficulty of training deep feedforward neural
        networks (AISTATS). Wardat et al., 2022, DeepDiagnosis (ICSE): saturated activation.
    """

    code: ClassVar[str] = "LP502"
    name: ClassVar[str] = "saturated-activations"
    requires: ClassVar = (ACTIVATION_SATURATED,)
    explains: ClassVar = (
        "LP302",
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP414",
        "LP707",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("reinitialize", "replace-activation", "decay-learning-rate")
    why: ClassVar[str] = "a squashing function far from 0 is flat: it passes hardly any gradient"

    least_slope: float = 0.05
    from_the_start: float = 0.85
    driven_there: float = 0.65
    on_the_output: float = 0.7

    def check(self, history: History) -> Finding | None:
        """Return the fault at the flattest squashing function."""
        first, last = history.first_tape, history.last_tape
        if first is None or last is None:
            return None
        flat = self._flat(history, first, last)
        if not flat:
            return None
        site = min(flat, key=lambda site: flat[site][1])
        worst, slope = flat[site]
        hidden = worst.index in {operation.index for operation in hidden_activations(last)}
        at_first = self._began_flat(_slopes(first), site)
        return self._report(history, worst, slope, len(flat), at_first=at_first, hidden=hidden)

    def _flat(
        self, history: History, first: Tape, last: Tape
    ) -> dict[str, tuple[Operation, float]]:
        """Return the saturated functions with their slopes, by site."""
        now = _slopes(last)
        if not now:
            return {}
        before = _slopes(history.tapes[-2]) if len(history.tapes) > 1 else {}
        begun = _slopes(first) if first.step == 0 else {}
        hidden = {operation.index for operation in hidden_activations(last)}
        outputs = _outputs(last)
        return {
            site: (operation, slope)
            for site, (operation, slope) in now.items()
            if max(slope, before.get(site, (operation, slope))[1]) <= self.least_slope
            and (
                operation.index in hidden
                or (operation.index in outputs and self._began_flat(begun, site))
            )
        }

    def _began_flat(self, begun: dict[str, tuple[Operation, float]], site: str) -> bool:
        return site in begun and begun[site][1] <= self.least_slope

    def _report(
        self,
        history: History,
        worst: Operation,
        slope: float,
        count: int,
        *,
        at_first: bool,
        hidden: bool,
    ) -> Finding:
        more = f", as are {count - 1} more" if count > 1 else ""
        since = "since the first step" if at_first else "but was not at first"
        sure = self.from_the_start if at_first else self.driven_there
        cause = (
            "start with smaller weights (nn.init.xavier_uniform_) and standardized inputs"
            if at_first
            else "lower the learning rate, or clip gradients"
        )
        return self.finding(
            history,
            sure if hidden else self.on_the_output,
            f"{worst.site} is saturated{more}: its slope is {100 * slope:.2g} % of its largest, "
            f"{since}",
            evidence=(
                Evidence("mean slope over the largest", slope, self.least_slope, worst.site),
                Evidence("saturated activations", float(count), 0.0),
            ),
            fix=f"{cause}; or normalize before the activation (nn.BatchNorm1d, nn.LayerNorm)",
            where=worst.site,
        )


def _slopes(tape: Tape) -> dict[str, tuple[Operation, float]]:
    """Return each squashing function on the way to the loss with its mean slope, by site."""
    return {
        _site(operation, tape): (operation, slope)
        for operation in called(tape, SQUASHERS)
        if (slope := _slope(operation)) is not None
    }


def _site(operation: Operation, tape: Tape) -> str:
    """Return a name that the same call has on every tape: its site and which call of it."""
    same = [o.index for o in tape if o.site == operation.site and o.index <= operation.index]
    return f"{operation.site}#{len(same)}"


def _slope(operation: Operation) -> float | None:
    """Return the mean slope over the largest, in 0 … 1; None where it was not measured.

    With y = tanh(x) the slope is 1 − y², with y = sigmoid(x) it is y − y²: means of the output and
    of its square are all that its mean takes.
    """
    seen = operation.statistics
    mean, std = seen.get("mean"), seen.get("std")
    if operation.name in ("tanh", "sigmoid", "expit"):
        if mean is None or std is None or not abs(mean) <= 1.0 or not 0.0 <= std <= 1.0:
            return None
        square = mean**2 + std**2
        slope = 1.0 - square if operation.name == "tanh" else 4.0 * (mean - square)
        return min(1.0, max(0.0, slope))
    share = seen.get("saturated")
    return 1.0 - share if share is not None and 0.0 <= share <= 1.0 else None


def _outputs(tape: Tape) -> frozenset[int]:
    """Return the squashing functions that a loss function is given the output of."""
    made = (tape.origin(operand) for loss in tape.losses for operand in loss.operands[:1])
    return frozenset(
        operation.index
        for operation in made
        if operation is not None and operation.name in SQUASHERS and operation.name not in LOSSES
    )
