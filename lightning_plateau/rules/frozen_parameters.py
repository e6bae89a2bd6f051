"""LP411: most of the network is frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.fitting import fitting
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import computing
from lightning_plateau.core.profile import ParameterFact
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import EXPERIMENT_OVERFIT, GRADIENT_NORMS


@dataclass(frozen=True)
class FrozenParameters(Rule):
    """Most of the network is frozen.

    What it detects:
        Parameters whose ``requires_grad`` is off and that make up most of what the forward pass
        uses, in a training that fails: what is left to train may be too little. Where nothing at
        all is left and backward cannot run, it is certain.

    Why it matters:
        Frozen parameters keep what they start with. Where that was not learned on a like task, the
        rest trains on noise.

    Example:
        >>> from lightning_plateau.core.profile import Profile
        >>> from lightning_plateau.testing import history
        >>> body = ParameterFact("body.weight", "body", (90, 10), trainable=False)
        >>> head = ParameterFact("head.weight", "head", (10, 10))
        >>> FrozenParameters().check(history(profile=Profile(parameters=(body, head)))).message
        '90 % of the elements that forward uses are frozen (1 of 2 parameters): body.weight'

    Remedies:
        Advice only: unfreeze more layers, at a lower learning rate than that of the head.

    Known limitations:
        Whether frozen weights are pretrained or random cannot be seen: so this is only said while
        training fails; and as possible, unless overfit-one-batch has shown that what is left to
        train cannot learn a single batch by heart.

    References:
        Yosinski et al., 2014, How transferable are features in deep neural networks? (NeurIPS).
    """

    code: ClassVar[str] = "LP411"
    name: ClassVar[str] = "frozen-parameters"
    severity: ClassVar[Severity] = Severity.WARNING
    requires: ClassVar = (GRADIENT_NORMS, EXPERIMENT_OVERFIT)
    explains: ClassVar = (
        "LP104",
        "LP306",
        "LP401",
        "LP405",
        "LP414",
        "LP802",
        "LP803",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "frozen weights keep what they start with, learned or random"

    least_share: float = 0.5
    nearly_all: float = 0.95
    least_learned: float = 0.1
    sure_where_unfit: float = 0.75
    most_named: int = 3

    def check(self, history: History) -> Finding | None:
        """Return the fault where most of what forward uses is frozen."""
        if not history.profile.frozen:
            return None
        used = _used(history)
        moving = _with_gradient(history)
        frozen = [p for p in used if not p.trainable and p.name not in moving]
        total = sum(p.size for p in used)
        share = sum(p.size for p in frozen) / total if total else 0.0
        if not frozen or share < self.least_share:
            return None
        nothing_left = _nothing_left(history)
        names = ", ".join(p.name for p in frozen[: self.most_named])
        more = len(frozen) - self.most_named
        return self.finding(
            history,
            1.0 if nothing_left else self._sure(history, share),
            f"{100 * share:.0f} % of the elements that forward uses are frozen "
            f"({len(frozen)} of {len(used)} parameters): {names}"
            + (f" and {more} more" if more > 0 else ""),
            evidence=(Evidence("share of frozen elements", share, self.least_share),),
            fix="requires_grad_(True) on the layers that are to learn, before the optimizer is made"
            + ("" if nothing_left else "; freeze only what was trained on a like task"),
            where=frozen[0].name,
        )

    def _sure(self, history: History, share: float) -> float:
        """Return how sure it is: more where what is left cannot even learn one batch by heart."""
        tried = fitting(history)
        if tried is not None and tried.learned < self.least_learned:
            return self.sure_where_unfit
        return 0.2 + 0.25 * share + 0.25 * (share > self.nearly_all)


def _used(history: History) -> list[ParameterFact]:
    """Return the parameters that the loss is computed with; all where no tape tells."""
    tape = history.last_tape
    if tape is None:
        return list(history.profile.parameters)
    names = {
        operand.name
        for operation in computing(tape)
        for operand in operation.operands
        if operand.source == "parameter"
    }
    return [fact for fact in history.profile.parameters if fact.name in names]


def _with_gradient(history: History) -> set[str]:
    """Return the parameters that got a gradient after all: some are unfrozen during training."""
    gradients = history[GRADIENT_NORMS]
    seen = np.isfinite(gradients.values).any(axis=0)
    return {gradients.labels[column] for column in np.flatnonzero(seen)}


def _nothing_left(history: History) -> bool:
    """Whether no parameter is trainable and backward found nothing to go through."""
    if any(fact.trainable for fact in history.profile.parameters) or _with_gradient(history):
        return False
    return any(tape.root is not None and not tape.root_requires_grad for tape in history.tapes)
