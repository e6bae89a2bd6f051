"""LP501: rectifiers whose units never fire."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import ACTIVATION_DEAD, GRADIENT_NORMS
from lightning_plateau.core.statistics import row_medians
from lightning_plateau.core.tape import RECTIFIERS, Operation, Tape


@dataclass(frozen=True)
class DeadUnits(Rule):
    """Units of a rectifier are zero for every sample.

    What it detects:
        More than half of the units of a rectifier's output are zero for the whole batch, on most of
        the latest sampled steps, although the batch holds enough values for each unit that chance
        cannot be the reason (where nearly all are zero, all batches since they were are counted),
        and although values do arrive there. It is surer where nearly all
        units are dead, where the layer that feeds them gets no gradient at all, and where it was
        so from the first step on: what died later was killed, most often by long steps. It is
        certain, whatever the loss does, where not one unit was ever alive and the gradient of the
        weight was zero each time: what lies before can never learn.

    Why it matters:
        A rectifier passes no gradient where it is zero: a unit that is zero for every sample never
        changes again.

    Example:
        >>> from lightning_plateau.core.tape import Operand
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0", (64, 4)), Operand("parameter", name="fc.weight")
        >>> fc = Operation(0, "linear", "fc", (x, weight), (64, 32), statistics={"minimum": -9.0})
        >>> relu = Operation(1, "relu", "act", (Operand("operation", 0),), (64, 32))
        >>> shares = {ACTIVATION_DEAD: {"act (relu)": [0.97, 0.97, 1.0]}}
        >>> run = history(shares, tapes=[Tape(0, (fc, relu), root=1)])
        >>> DeadUnits().check(run).message
        '97 % of the units of act (relu) are zero for every sample of the batch'

    Remedies:
        Re-initialize the layer (Kaiming), lower the learning rate that killed it, or use a
        rectifier with a slope below zero.

    Known limitations:
        A network that is much wider than its task may well leave half of its units idle; the rule
        speaks only while training fails, unless a whole layer is dead from the start.

    References:
        Lu et al., 2020, Dying ReLU and Initialization: Theory and Numerical Examples. He et al.,
        2015, Delving Deep into Rectifiers (ICCV).
    """

    code: ClassVar[str] = "LP501"
    name: ClassVar[str] = "dead-units"
    requires: ClassVar = (ACTIVATION_DEAD, GRADIENT_NORMS)
    explains: ClassVar = (
        "LP104",
        "LP302",
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP707",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("reinitialize", "replace-activation", "decay-learning-rate")
    why: ClassVar[str] = "a unit that is zero for every sample passes no gradient and stays so"

    most_dead: float = 0.5
    nearly_all: float = 0.9
    latest_samples: int = 3
    values_per_unit: int = 16
    values_in_batches: int = 8
    least_input: float = 1e-3

    def check(self, history: History) -> Finding | None:
        """Return the fault at the rectifier with the largest share of dead units."""
        dead = history[ACTIVATION_DEAD]
        if not len(dead) or not history.tapes:
            return None
        usual = row_medians(dead.values[-self.latest_samples :].T).tolist()
        shares = dict(zip(dead.labels, usual, strict=True))
        judged = {
            label: (share, telling)
            for label, share in shares.items()
            if share > self.most_dead and (telling := self._telling(history, label)) is not None
        }
        if not judged:
            return None
        site = max(judged, key=lambda label: judged[label][0])
        share, (tape, rectifier) = judged[site]
        return self._report(history, tape, site, share, rectifier)

    def _telling(self, history: History, label: str) -> tuple[Tape, Operation] | None:
        """Return the latest tape on which the rectifier can be judged, and the rectifier.

        The last batch of an epoch may be too small, and the latest tape may be of it.
        """
        batches = self._batches(history, label)
        for tape in reversed(history.tapes):
            rectifier = _rectifier(tape, label)
            if rectifier is not None and self._tells(tape, rectifier, batches):
                return tape, rectifier
        return None

    def _batches(self, history: History, label: str) -> int:
        """Return how many of the latest batches say together that units are dead.

        Each has samples of its own, but only where nearly all units are zero each time is it known
        that they were the same ones.
        """
        shares = history[ACTIVATION_DEAD].column(label).values
        alive = np.flatnonzero(shares[::-1] < self.nearly_all)
        return max(1, int(alive[0]) if len(alive) else len(shares))

    def _report(
        self, history: History, tape: Tape, site: str, share: float, rectifier: Operation
    ) -> Finding:
        starved = _without_gradient(history, tape, rectifier)
        cut = f"; no gradient reaches {starved}" if starved else ""
        first = float(history[ACTIVATION_DEAD].column(site).values[0])
        died = first < self.most_dead
        # Units that were alive at first were killed by something: it should speak before us.
        sure = 0.8 if died else 0.95 if starved else 0.9
        if starved and not _answers(tape, rectifier) and self._never_lived(history, site, starved):
            sure = 1.0
        when = f", {100 * first:.0f} % at first" if died else ""
        return self.finding(
            history,
            sure if share > self.nearly_all else 0.6,
            f"{100 * share:.0f} % of the units of {site} are zero for every sample of the batch"
            f"{when}{cut}",
            evidence=(Evidence(ACTIVATION_DEAD.tag, share, self.most_dead, site),),
            fix="re-initialize the layer before it (nn.init.kaiming_normal_, bias 0), lower the "
            "learning rate, or use nn.LeakyReLU or nn.GELU",
            where=site,
        )

    def _never_lived(self, history: History, site: str, weight: str) -> bool:
        """Whether not one unit was ever alive, nor one gradient of the weight other than zero."""
        dead = history[ACTIVATION_DEAD].column(site).values
        gradients = history[GRADIENT_NORMS].column(weight).values
        seen = min(len(dead), len(gradients))
        return seen >= self.latest_samples and bool(
            (dead == 1.0).all() and (gradients == 0.0).all()
        )

    def _tells(self, tape: Tape, rectifier: Operation, batches: int) -> bool:
        """Whether chance and vanishing input can be ruled out as the reason."""
        if not rectifier.shape or prod(rectifier.shape) == 0 or not rectifier.operands:
            return False
        convolved = len(rectifier.shape) == 4
        units = rectifier.shape[1] if convolved else rectifier.shape[-1]
        values = prod(rectifier.shape) / max(1, units)
        few = self.values_per_unit if batches == 1 else self.values_in_batches
        if batches * values < few:
            return False
        before = tape.producer(rectifier.operands[0])
        seen = before.statistics if before is not None else {}
        low, high = seen.get("minimum", -1.0), seen.get("maximum", 0.0)
        # Inputs near zero everywhere are a matter of scale, not of dead units.
        return max(abs(low), abs(high)) > self.least_input


def _answers(tape: Tape, rectifier: Operation) -> bool:
    """Whether the loss compares the rectifier's own output: then it stands in the wrong place."""
    return any(tape.origin(one.prediction) is rectifier for one in comparisons(tape))


def _rectifier(tape: Tape, label: str) -> Operation | None:
    site, _, repeat = label.partition("#")
    found = [o for o in tape if o.name in RECTIFIERS and o.site == site]
    index = int(repeat) - 1 if repeat.isdigit() else 0
    return found[index] if 0 <= index < len(found) else None


def _without_gradient(history: History, tape: Tape, rectifier: Operation) -> str:
    """Return the weight that feeds ``rectifier``, if its gradient is exactly zero; else ``""``."""
    gradients = history[GRADIENT_NORMS]
    for operation in tape.ancestors(rectifier)[:4]:
        for operand in operation.operands:
            if operand.source == "parameter" and operand.name in gradients.labels:
                last = gradients.column(operand.name).last
                return operand.name if last == 0.0 else ""
    return ""
