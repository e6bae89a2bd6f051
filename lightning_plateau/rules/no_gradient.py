"""LP304: parameters get no gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import computing
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import GRADIENT_NORM, GRADIENT_NORMS, LOSS
from lightning_plateau.core.tape import Operation, Tape


@dataclass(frozen=True)
class NoGradient(Rule):
    """Parameters get no gradient.

    What it detects:
        Trainable parameters that an optimizer holds, and whose gradient was absent or exactly zero
        on every one of the recent steps (at least 5, at most 50), while other parameters had one or
        the loss was not zero. The tape tells the two reasons apart: parameters that the forward
        pass never uses, and parameters that it uses but that are cut off from the loss, by
        ``detach``, ``no_grad``, ``argmax`` or units that are all dead; and names the operation.

    Why it matters:
        These parameters keep their random start. Cut off in the middle, the whole network before
        the cut does not learn.

    Example:
        >>> from lightning_plateau.testing import history
        >>> norms = {"body.weight": [0.0] * 9, "head.weight": [1.0] * 9}
        >>> run = history({GRADIENT_NORMS: norms, GRADIENT_NORM: [1.0] * 9}, loss=[2.3] * 9)
        >>> NoGradient().check(run).message
        '1 of 2 parameters got no gradient in the last 9 steps: body.weight'

    Remedies:
        Take the cut out of the forward pass, or the parameters out of the optimizer. Where weights
        began at zero, reinitialize gives them a start.

    Known limitations:
        Experts and branches that are chosen by the data may rest longer than 50 steps. Whether zero
        comes from dead units is LP501's to say.

    References:
        Zhang et al., 2021, AutoTrainer (ICSE). Nikanjam et al., 2022, Automatic Fault Detection for
        Deep Learning Programs Using Graph Transformations (TOSEM).
    """

    code: ClassVar[str] = "LP304"
    name: ClassVar[str] = "no-gradient"
    requires: ClassVar = (GRADIENT_NORMS, GRADIENT_NORM, LOSS)
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
    remedies: ClassVar = ("reinitialize",)
    why: ClassVar[str] = "parameters without a gradient keep their random start"

    window: int = 50
    minimum_rows: int = 5
    most_named: int = 3

    def check(self, history: History) -> Finding | None:
        """Return the fault where trainable parameters had no gradient for many steps."""
        recent = history[GRADIENT_NORMS].tail(self.window)
        if len(recent) < self.minimum_rows or not _expected(history):
            return None
        frozen = {fact.name for fact in history.profile.parameters if not fact.trainable}
        trained = [label for label in recent.labels if label not in frozen]
        zeros = (np.isnan(recent.values) | (recent.values == 0.0)).all(axis=0)
        still = [label for label in trained if zeros[recent.places[label]]]
        if not still:
            return None
        cut = _cut(history.last_tape, set(still))
        listed = ", ".join(still[: self.most_named])
        more = f" and {len(still) - self.most_named} more" if len(still) > self.most_named else ""
        share = len(still) / len(trained)
        return self.finding(
            history,
            _confidence(cut, share),
            f"{len(still)} of {len(trained)} parameters got no gradient "
            f"in the last {len(recent)} steps: {listed}{more}"
            + (f" (cut off at {cut.site})" if cut is not None else ""),
            evidence=(Evidence("parameters without a gradient", float(len(still)), 0.0, still[0]),),
            fix=_fix(cut),
            where=still[0] if cut is None else cut.site,
        )


def _expected(history: History) -> bool:
    """Whether gradients can be expected: a loss of exactly zero has none to give."""
    loss, total = history[LOSS].last, history[GRADIENT_NORM].last
    return bool(np.isfinite(total)) and not (loss == 0.0 and total == 0.0)


def _cut(tape: Tape | None, still: set[str]) -> Operation | None:
    """Return the operation at which the way from the loss to the parameters ``still`` ends, if any.

    It is the last operation computed from one of them that takes no part in backward; where all
    take part (gradients of exactly zero), the last one that uses such a parameter itself.
    """
    if tape is None:
        return None
    reached: set[int] = set()
    last_use = cut = None
    for operation in computing(tape):
        uses = any(o.source == "parameter" and o.name in still for o in operation.operands)
        depends = uses or any(
            o.source == "operation" and o.index in reached for o in operation.operands
        )
        if uses:
            last_use = operation
        if depends and not operation.requires_grad:
            reached.add(operation.index)
            cut = operation
        elif depends and cut is None:
            reached.add(operation.index)
    return cut or last_use


def _confidence(cut: Operation | None, share: float) -> float:
    if cut is not None and not cut.requires_grad:
        return 0.7 + 0.25 * share
    # What forward leaves aside is odd, but seldom why a loss stays; and what gets gradients of
    # exactly zero has mostly died of something else: long steps, large inputs.
    return 0.35 + 0.3 * share


def _fix(cut: Operation | None) -> str:
    if cut is None:
        return "use these parameters in forward, or keep them out of the optimizer"
    if not cut.requires_grad:
        return f"let gradients through {cut.site}: no detach, no_grad, item or argmax before it"
    return f"look at what follows {cut.site}: every gradient to it is exactly zero"
