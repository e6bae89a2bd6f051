"""LP806: regularization leaves too little to learn with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from lightning_plateau.core.chance import chance_of_each, untrained_loss
from lightning_plateau.core.code_term import code_term
from lightning_plateau.core.derived import derived
from lightning_plateau.core.finding import Evidence, Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.layers import called, computing
from lightning_plateau.core.objective import comparisons
from lightning_plateau.core.penalty import Penalty, penalty
from lightning_plateau.core.progress import progress
from lightning_plateau.core.rule import Rule
from lightning_plateau.core.signal import LOSS
from lightning_plateau.core.tape import Operand, Operation, Tape

_DROPOUTS = frozenset(
    ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
)


@dataclass(frozen=True)
class OverRegularized(Rule):
    """Regularization leaves too little to learn with.

    What it detects:
        A penalty of the weights, added to the loss by hand, that is larger than the loss of the
        data, which has not come down; or dropout that lets through less than half of what the
        layers compute (``p`` above 0.5, or several in a row), in a training whose loss stays high;
        or, with half of the planned steps made, a variational autoencoder whose code tells nothing
        any more: what the loss adds for the code has gone to nothing, its answers hardly differ
        from one another, and the loss has come to rest at that of guessing.

    Why it matters:
        The cheapest way to a lower loss is to shrink the weights, or to answer with a constant that
        needs no units, or no code: the data are not worth their cost.

    Example:
        >>> from lightning_plateau.testing import history
        >>> x, weight = Operand("batch", 0, "0"), Operand("parameter", name="fc.weight")
        >>> mode = {"p": 0.95, "training": True}
        >>> drop = Operation(0, "dropout", "drop", (x,), attributes=mode)
        >>> fc = Operation(1, "linear", "fc", (Operand("operation", 0), weight))
        >>> sides = (Operand("operation", 1), Operand("batch", 1, "1"))
        >>> loss = Operation(2, "cross_entropy", "", sides)
        >>> tape = Tape(0, (drop, fc, loss), root=2)
        >>> run = history(loss=[2.3] * 100, tapes=[tape], epoch_ends=[50, 100])
        >>> OverRegularized().check(run).message
        'dropout lets 5 % through (drop (dropout)), and the loss stays at 2.3'

    Remedies:
        Advice only: a weaker penalty, less dropout. ``p`` is the share that is dropped. A
        divergence that is summed over the code belongs beside an error that is summed over the
        pixels; or its weight is raised from zero in the course of training.

    Known limitations:
        Weight decay is the optimizer's and is looked at by LP413. A large network may need strong
        dropout: then the loss falls, and nothing is said.

    References:
        Srivastava et al., 2014, Dropout: A Simple Way to Prevent Neural Networks from Overfitting
        (JMLR). Goodfellow et al., 2016, Deep Learning, chapter 7. Bowman et al., 2016, Generating
        Sentences from a Continuous Space (CoNLL), on codes that collapse.
    """

    code: ClassVar[str] = "LP806"
    name: ClassVar[str] = "over-regularized"
    severity: ClassVar[Severity] = Severity.WARNING
    needs_failure: ClassVar[bool] = False
    requires: ClassVar = (LOSS,)
    explains: ClassVar = (
        "LP106",
        "LP306",
        "LP401",
        "LP402",
        "LP405",
        "LP406",
        "LP413",
        "LP414",
        "LP501",
        "LP706",
        "LP707",
        "LP802",
        "LP803",
        "LP804",
        "LP807",
        "LP808",
    )
    why: ClassVar[str] = "a constant answer costs less than one that the data had a part in"

    minimum_steps: int = 40
    least_share: float = 0.5
    least_left: float = 0.9
    least_kept: float = 0.5
    hardly_kept: float = 0.2
    least_left_where_hardly_kept: float = 0.5
    most_ahead: float = 0.1
    most_for_code: float = 0.05
    least_differing: float = 0.2
    least_beside_guessing: float = 0.9
    least_of_plan: float = 0.5

    def check(self, history: History) -> Finding | None:
        """Return the fault where penalties or dropout outweigh the data."""
        planned = history.profile.planned_steps or 0
        enough = max(self.minimum_steps, min(200, planned // 100))
        if not history.epoch_ends or history.step < enough:
            return None
        return self._penalized(history) or self._dropped(history) or self._collapsed(history)

    def _penalized(self, history: History) -> Finding | None:
        seen = [one for tape in history.tapes if (one := penalty(tape)) is not None]
        if len(seen) < 3:
            return None
        largest = max(seen, key=lambda one: one.share)
        stays = all(one.rest > self.least_left * seen[0].rest > 0 for one in seen[1:])
        if largest.share < self.least_share or not stays:
            return None
        finding = self._report_penalty(history, largest, seen[0], seen[-1])
        return replace(finding, severity=Severity.ERROR)

    def _report_penalty(
        self, history: History, largest: Penalty, first: Penalty, last: Penalty
    ) -> Finding:
        return self.finding(
            history,
            0.95 if largest.share > 0.9 else 0.75,
            f"the penalty of the weights makes up to {100 * largest.share:.0f} % of the loss; "
            f"that of the data went from {first.rest:.3g} to {last.rest:.3g}",
            evidence=(
                Evidence("share of the penalty", largest.share, self.least_share),
                Evidence("loss of the data now over that at the start", last.rest / first.rest),
            ),
            fix="multiply the penalty by a factor that makes it a tenth of the loss or less, "
            "or use weight_decay of the optimizer",
            where=largest.operation.site,
        )

    def _dropped(self, history: History) -> Finding | None:
        tape = history.last_tape
        if tape is None or not called(tape, _DROPOUTS):
            return None
        kept, drops = _kept(tape)
        if kept >= self.least_kept or not drops:
            return None
        hardly = kept <= self.hardly_kept
        level = self._level(history, hardly=hardly)
        if math.isnan(level):
            return None
        worst = max(drops, key=_share_dropped)
        more = "" if len(drops) == 1 else f" and {len(drops) - 1} more"
        return self.finding(
            history,
            0.7 if hardly else 0.4,
            f"dropout lets {100 * kept:.2g} % through ({worst.site}{more}), "
            f"and the loss stays at {level:.4g}",
            evidence=(Evidence("share that dropout lets through", kept, self.least_kept),),
            fix="lower p, which is the share that is dropped: 0.1 to 0.5 after wide layers",
            where=worst.site,
        )

    def _collapsed(self, history: History) -> Finding | None:
        """Return the fault where the code of a variational autoencoder tells nothing any more."""
        latest = [one for tape in history.tapes[-2:] if (one := code_term(tape)) is not None]
        if len(latest) < 2 or not self._rests_at_guessing(history):
            return None
        told = max(one.differing for one in latest)
        if max(one.share for one in latest) > self.most_for_code or told > self.least_differing:
            return None
        where = latest[-1].operation.site
        return self.finding(
            history,
            0.75,
            f"the code tells nothing: its divergence is {100 * latest[-1].share:.2g} % of the "
            f"loss, and the answers differ {100 * told:.2g} % as much as the targets",
            evidence=(
                Evidence("share of the divergence", latest[-1].share, self.most_for_code, where),
                Evidence("spread of answers over targets", told, self.least_differing),
            ),
            fix="weigh the divergence less: sum the error over the pixels as it is summed over the "
            "code, or raise its weight from 0 in the course of training",
            where=where,
        )

    def _rests_at_guessing(self, history: History) -> bool:
        """Whether the loss has come to rest beside that of guessing, late enough to judge."""
        gone, chance = progress(history[LOSS]), chance_of_each(history)
        planned = history.profile.planned_steps
        late = history.finished or (planned and history.step >= self.least_of_plan * planned)
        if not late or chance is None or chance <= 0 or gone.rows < self.minimum_steps:
            return False
        rests = -gone.slope * gone.rows <= self.most_ahead
        return rests and gone.now >= self.least_beside_guessing * chance

    def _level(self, history: History, *, hardly: bool) -> float:
        """Return where the loss stays; NaN where it has come down, or is on its way."""
        gone, untrained = progress(history[LOSS]), untrained_loss(history)
        least = self.least_left_where_hardly_kept if hardly else self.least_left
        if gone.rows < self.minimum_steps or untrained is None or untrained <= 0:
            return math.nan
        over = history.finished and hardly
        falling = -gone.slope * gone.rows > self.most_ahead and not over
        return math.nan if falling or gone.now < least * untrained else gone.now


@derived
def _kept(tape: Tape) -> tuple[float, list[Operation]]:
    """Return what share of the data gets through dropout to the answers, and the calls of it."""
    kept: dict[int, float] = {}
    drops = []
    for operation in computing(tape):
        shares = [_share(operand, kept) for operand in operation.operands]
        known = [share for share in shares if share is not None]
        if not known:
            continue
        dropped = _share_dropped(operation)
        if 0.0 < dropped < 1.0:
            drops.append(operation)
        kept[operation.index] = max(known) * (1.0 - dropped)
    answers = [_share(one.prediction, kept) for one in comparisons(tape)]
    return max((share for share in answers if share is not None), default=1.0), drops


def _share(operand: Operand, kept: dict[int, float]) -> float | None:
    """Return what is left of the data in ``operand``; None where there never were any."""
    if operand.source == "operation":
        return kept.get(operand.index)
    return 1.0 if operand.source == "batch" else None


def _share_dropped(operation: Operation) -> float:
    p = operation.attributes.get("p")
    active = operation.name in _DROPOUTS and operation.attributes.get("training") is not False
    if not active or isinstance(p, bool) or not isinstance(p, int | float):
        return 0.0
    return min(1.0, max(0.0, float(p)))
