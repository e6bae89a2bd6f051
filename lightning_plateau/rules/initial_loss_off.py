"""LP706: the first loss is far above that of guessing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import BINARY_LOSSES, CLASS_LOSSES


@dataclass(frozen=True)
class InitialLossOff(Rule):
    """The first loss is far above that of guessing.

    What it detects:
        A classification whose very first loss is more than three times what guessing gives: ln K
        for K classes. A network that knows nothing yet should guess; this one is sure of wrong
        answers.

    Why it matters:
        The scores are too large from the start: inputs or initial weights are off scale, or a head
        is wired wrong. The softmax is saturated, and the first epochs go into unlearning.

    Example:
        >>> from lightning_plateau.core.tape import Operand, Operation, Tape
        >>> from lightning_plateau.testing import history
        >>> weight, x = Operand("parameter", name="w"), Operand("batch", 0, "0")
        >>> fc = Operation(0, "linear", operands=(x, weight), shape=(8, 10))
        >>> logits, y = Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,))
        >>> loss = Operation(1, "cross_entropy", operands=(logits, y))
        >>> run = history(loss=[230.0, 190.0], tapes=[Tape(0, (fc, loss), root=1)])
        >>> InitialLossOff().check(run).message
        'the first loss is 230, 99.9 times that of guessing (2.303)'

    Remedies:
        reinitialize gives the weights the variance that the activations need; standardize-input
        where the data are off scale.

    Known limitations:
        Only classification with one averaged loss. A pretrained network on new classes may start
        above chance and do well.

    References:
        Karpathy, 2019, A Recipe for Training Neural Networks. Ben Braiek and Khomh, 2023, Testing
        Feedforward Neural Networks Training Programs (TOSEM).
    """

    code: ClassVar[str] = "LP706"
    name: ClassVar[str] = "initial-loss-off"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (LOSS,)
    explains: ClassVar = (
        "LP304",
        "LP306",
        "LP401",
        "LP405",
        "LP406",
        "LP414",
        "LP501",
        "LP803",
        "LP807",
        "LP808",
    )
    remedies: ClassVar = ("reinitialize", "standardize-input")
    method: ClassVar[Method] = "training_step"
    why: ClassVar[str] = "scores that are too large saturate the softmax before training begins"

    least_ratio: float = 3.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where a classification begins far above chance."""
        losses = history[LOSS]
        tape = history.first_tape
        if tape is None or not len(losses) or losses.steps[0] != 0 or tape.step != 0:
            return None
        if not any(loss.name in CLASS_LOSSES | BINARY_LOSSES for loss in tape.losses):
            return None
        chance, first = chance_loss(history), float(losses.values[0])
        if chance is None or chance <= 0.0 or not math.isfinite(first):
            return None
        ratio = first / chance
        if not self.least_ratio < ratio < math.inf:
            return None
        return self.finding(
            history,
            min(0.75, 0.25 + 0.3 * math.log10(ratio)),
            f"the first loss is {first:.4g}, {ratio:.3g} times that of guessing ({chance:.4g})",
            evidence=(Evidence("first loss over that of guessing", ratio, self.least_ratio),),
            fix="standardize the inputs, and let the last layer start small "
            "(torch's own initialization does)",
            step=0,
        )
