"""LP413: weight decay outweighs the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.decay import Decay, decay
from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.rule import Method, Rule
from lightning_plateau.core.signal import (
    GRADIENT_NORMS,
    INITIAL_NORMS,
    LEARNING_RATES,
    PARAMETER_NORMS,
    UPDATE_RATIOS,
)


@dataclass(frozen=True)
class WeightDecayDominates(Rule):
    """Weight decay outweighs the gradient.

    What it detects:
        In a training that fails: more than half of the updates of a typical layer is weight decay,
        and its weights have shrunk to half of their first size or less; or nearly all of it is, and
        the weights grow, because one step of decay overshoots zero.

    Why it matters:
        The weights go to zero, or past it, whatever the data say.

    Example:
        >>> from lightning_plateau.core.profile import GroupFact, OptimizerFact, Profile
        >>> from lightning_plateau.testing import history
        >>> sgd = OptimizerFact("SGD", (GroupFact(("w",), {"lr": 0.1, "weight_decay": 1.0}),))
        >>> signals = {
        ...     PARAMETER_NORMS: {"w": [9.0, 5.0, 1.0]},
        ...     INITIAL_NORMS: {"w": [10.0]},
        ...     GRADIENT_NORMS: {"w": [1.0, 1.0, 1.0]},
        ... }
        >>> run = history(signals, loss=[2.3] * 3, profile=Profile(optimizers=(sgd,)))
        >>> WeightDecayDominates().check(run).message
        'weight decay makes up 83 % of the updates; the weights are at 10 % of their first size'

    Remedies:
        Advice only: a weight decay of 1e-4 with SGD, of 0.01 with AdamW.

    Known limitations:
        Penalties that ``training_step`` adds to the loss are part of the gradient and not seen
        here. Where gradients vanish, the decay of an ordinary setting outweighs them as well; but
        then it takes tens of thousands of steps for the weights to shrink.

    References:
        Loshchilov and Hutter, 2019, Decoupled Weight Decay Regularization (ICLR). Krogh and Hertz,
        1991, A Simple Weight Decay Can Improve Generalization (NeurIPS).
    """

    code: ClassVar[str] = "LP413"
    name: ClassVar[str] = "weight-decay-dominates"
    requires: ClassVar = (
        PARAMETER_NORMS,
        INITIAL_NORMS,
        UPDATE_RATIOS,
        GRADIENT_NORMS,
        LEARNING_RATES,
    )
    explains: ClassVar = (
        "LP201",
        "LP202",
        "LP203",
        "LP204",
        "LP302",
        "LP303",
        "LP304",
        "LP306",
        "LP401",
        "LP402",
        "LP403",
        "LP404",
        "LP405",
        "LP406",
        "LP407",
        "LP414",
        "LP501",
        "LP502",
        "LP609",
        "LP802",
        "LP807",
        "LP808",
    )
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "the weights go to zero, or past it, whatever the data say"

    least_share: float = 0.5
    most_size: float = 0.5
    overshooting_share: float = 0.9
    overshooting_size: float = 2.0

    def check(self, history: History) -> Finding | None:
        """Return the fault where decay makes the updates and moved the weights."""
        found = decay(history)
        if found is None or not self._dominates(found):
            return None
        ordinary = "0.01" if history.profile.optimizers[0].kind == "AdamW" else "1e-4"
        return self.finding(
            history,
            0.95 if found.size < self.most_size / 5 or found.share > 0.9 else 0.8,
            f"weight decay makes up {100 * found.share:.0f} % of the updates; the weights are at "
            f"{100 * found.size:.3g} % of their first size",
            evidence=(
                Evidence("share of weight decay in updates", found.share, self.least_share),
                Evidence("size of the weights", found.size, self.most_size),
            ),
            fix=f"weight_decay={ordinary} in place of {found.largest:.3g}",
        )

    def _dominates(self, found: Decay) -> bool:
        if found.size <= self.most_size:
            return found.share >= self.least_share
        return found.size >= self.overshooting_size and found.share >= self.overshooting_share
