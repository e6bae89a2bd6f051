"""A trial: a remedy on probation, which is kept or reverted by what the loss does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lightning_plateau.core.chance import untrained_loss
from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.profile import Value
from lightning_plateau.core.progress import progress
from lightning_plateau.core.remedy import Change, Intervention, Outcome, Remedy, Safety, Verdict
from lightning_plateau.core.signal import LOSS, VALIDATION_LOSS
from lightning_plateau.core.statistics import noise, theil_sen
from lightning_plateau.remedies import by_name
from lightning_plateau.training.run import Run
from lightning_plateau.training.snapshot import Snapshot
from lightning_plateau.treatment.setback import setback

MATERIAL = 0.01
"""A change of the loss below this share of its size is no change."""
BROKEN_ROWS = 10
"""So many losses in a row that are not finite end a trial at once."""
LEAST_STEPS = 20
"""Steps after which a run that began again and learns nothing at all is given up, at the least."""
PATIENT = 3
"""Probations that a run which began again is given while its loss falls."""
ENOUGH = 0.5
"""Share by which the loss of a run that began again should fall until the end."""
OFF_SCALE = 3.0
"""How many times as high as that of guessing a first loss is that shows weights off scale."""
SHORTENS = "decay-learning-rate"
"""What shortens steps that were too long."""
VALIDATIONS = 3
"""Validations that are compared where it is they that tell."""


@dataclass(frozen=True, slots=True)
class Level:
    """Where the loss was over some steps.

    Attributes:
        loss: Median of the finite losses; NaN for none.
        error: Standard error of that median.
        finite: Share of the losses that are finite; 1.0 where nothing was recorded.
    """

    loss: float
    error: float
    finite: float

    @classmethod
    def of(cls, losses: Any) -> Level:
        """Return the level of an array of losses ``[n]``.

        Example:
            >>> Level.of([2.0, 2.0, float("nan"), 2.0])
            Level(loss=2.0, error=0.0, finite=0.75)
        """
        values = np.asarray(losses, dtype=np.float64)
        finite = values[np.isfinite(values)]
        if not len(finite):
            return cls(math.nan, math.nan, 0.0 if len(values) else 1.0)
        spread = noise(values) if len(finite) > 2 else 0.0
        # The median of normal values has a standard error of √(π/2)·σ/√n.
        error = 1.2533 * (0.0 if math.isnan(spread) else spread) / math.sqrt(len(finite))
        return cls(float(np.median(finite)), error, len(finite) / len(values))

    @property
    def is_finite(self) -> bool:
        """Whether most of the losses are finite."""
        return self.finite >= 0.5

    @property
    def plain(self) -> dict[str, Value]:
        """The numbers for an outcome."""
        return {"loss": self.loss, "finite": self.finite}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The loss before a remedy and at the end of its probation.

    Attributes:
        before: The loss before it.
        after: The loss at the end.
        drift: By how much it would have changed meanwhile at its old pace; 0 where it stood still,
            and where it rose, unless a rise is what the remedy is to stop.
    """

    before: Level
    after: Level
    drift: float = 0.0

    @property
    def _rise(self) -> float:
        return self.after.loss - self.before.loss

    @property
    def _least(self) -> float:
        """The least change that is neither chance nor of no account."""
        chance = 3 * math.hypot(self.before.error, self.after.error)
        return max(chance, MATERIAL * max(abs(self.before.loss), abs(self.after.loss)))

    @property
    def fall(self) -> float:
        """Share of the loss before by which it fell."""
        size = abs(self.before.loss)
        return -self._rise / size if size > 0 else 0.0

    @property
    def worse(self) -> bool:
        """Whether the loss is higher than before by more than chance, or no longer finite."""
        if not (self.before.is_finite and self.after.is_finite):
            return self.before.is_finite and not self.after.is_finite
        return self._rise - max(0.0, self.drift) > self._least

    @property
    def better(self) -> bool:
        """Whether the loss fell by more than chance and than it would have, or is finite again."""
        if not (self.before.is_finite and self.after.is_finite):
            return self.after.is_finite and not self.before.is_finite
        return self._rise - self.drift < -self._least

    @property
    def fresh_verdict(self) -> tuple[Verdict, str]:
        """Return how the trial of a run ends that began again: nothing but learning counts."""
        first, now = f"{self.before.loss:.4g}", f"{self.after.loss:.4g}"
        if self.better:
            return Verdict.KEPT, f"begun again, the loss fell from {first} to {now}"
        return Verdict.REVERTED, f"begun again, the loss went from {first} to {now}: no gain"

    @property
    def verdict_on_pace(self) -> tuple[Verdict, str]:
        """Return how a trial ends that is to make the loss fall faster."""
        change = f"the loss went from {self.before.loss:.4g} to {self.after.loss:.4g}"
        if self.better:
            return Verdict.KEPT, f"{change}: faster than before"
        return Verdict.REVERTED, f"{change}: no faster than before"

    def verdict(self, remedy: Remedy, code: str, *, still_found: bool) -> tuple[Verdict, str]:
        """Return how the trial ends, and one sentence that says why."""
        watched = "the validation loss" if remedy.watched == VALIDATION_LOSS else "the loss"
        change = f"{watched} went from {self.before.loss:.4g} to {self.after.loss:.4g}"
        if self.better and self._rise > 0:
            change += ", less than it would have risen"
        if not self.after.is_finite:
            share = 100 * (1 - self.after.finite)
            return Verdict.REVERTED, f"the loss is not finite in {share:.0f} % of the steps"
        if self.worse:
            return Verdict.REVERTED, f"{change}: it rose"
        if not still_found:
            return Verdict.KEPT, f"{code} is gone; {change}"
        if self.better:
            return Verdict.KEPT, f"{code} is still there, but {change}"
        if remedy.safety is Safety.SAFE:
            return Verdict.KEPT, f"{code} is still there, and does no harm: {change}"
        return Verdict.REVERTED, f"{code} is still there, and {change}: that is no improvement"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a trial is judged by.

    Attributes:
        before: The loss before the remedy.
        probation_steps: Optimizer steps to watch.
        pace: By how much the loss changed a step before the remedy; 0 where it stood still.
        fresh: Whether the run began again from its first weights with the remedy. Such a trial is
            kept only where the loss falls below that of the first step, and ends halfway where
            nothing shows that it does.
        must_improve: Whether nothing but a better loss will do, as where the fault was gone before.
        first: The loss at the first step of a run that began again; infinite where it was not
            finite.
        overshot: Whether the loss of a run that began again was above that of guessing.
    """

    before: Level
    probation_steps: int
    pace: float = 0.0
    fresh: bool = False
    must_improve: bool = False
    first: float = 0.0
    overshot: bool = False


class Trial:
    """A remedy on probation.

    Args:
        remedy: What was applied.
        intervention: The record of it.
        change: What it changed, and how to undo it.
        terms: What it is judged by.
        snapshot: The state before it; None where there is none.
    """

    def __init__(
        self,
        remedy: Remedy,
        intervention: Intervention,
        change: Change,
        terms: Terms,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.remedy = remedy
        self.intervention = intervention
        self.change = change
        self.terms = terms
        self.snapshot = snapshot
        self._beginning: Snapshot | None = None

    @classmethod
    def start(
        cls,
        run: Run,
        remedy: Remedy,
        finding: Finding,
        number: int,
        probation_steps: int,
        *,
        must_improve: bool = False,
    ) -> Trial:
        """Apply ``remedy`` to ``run`` and begin to watch.

        A run that is worth nothing goes back to the last state that was well, or else to its first
        weights, where they are kept: what it has become would hide that the remedy is right. One
        that is sound and only too slow goes on from where it is.

        Args:
            run: The run, whose ``history`` is up to date.
            remedy: What to apply; it has no obstacle.
            finding: The finding that it answers.
            number: Number of the intervention, counted from 1.
            probation_steps: Optimizer steps to watch.
            must_improve: Whether nothing but a better loss will do.
        """
        harmless = remedy.safety is Safety.SAFE or remedy.final
        needs_snapshot = not (harmless or remedy.keeps_state)
        copied = needs_snapshot and all(a.obstacle("roll-back") is None for a in run.adapters)
        snapshot = Snapshot.take(run) if copied else None
        before = Level.of(_rows_before(run.history, remedy, run.step, probation_steps))
        target = run.snapshots.latest(before=run.step)
        fresh, back, lost, pace = (
            False,
            {},
            before,
            _pace(run.history, remedy, run.step, probation_steps),
        )
        if snapshot is not None and target is not None and run.worthless and not must_improve:
            # First: what the remedy does to the weights must last.
            target.restore(run, schedule=False)
            fresh = target is run.snapshots.initial
            before = _level_of_state(run, target, probation_steps, fresh=fresh)
            back, pace = {"state_of_step": target.step}, 0.0
        change = remedy.apply(run)
        left = {"state_of_step": run.step} if back else {}
        was, now = {**change.before, **left}, {**change.after, **back}
        made = Intervention(number, run.step, remedy.name, finding.code, was, now)
        first = _first_loss(run.history) if fresh else 0.0
        overshot = fresh and Comparison(before, lost).worse
        terms = Terms(before, probation_steps, pace, fresh, must_improve, first, overshot)
        trial = cls(remedy, made, change, terms, snapshot)
        if fresh and remedy.renews:
            trial._beginning = Snapshot.take(run)
        return trial

    @property
    def step(self) -> int:
        """Optimizer step at which the remedy was applied."""
        return self.intervention.step

    def judge(self, history: History, findings: Iterable[Finding]) -> Outcome | None:
        """Return how the trial ended; None while it goes on. A function of its arguments alone.

        Args:
            history: What was recorded, before the remedy and since.
            findings: What is found in the history *since* the remedy.
        """
        if not self._is_over(history):
            return None
        comparison = self._compare(history)
        still_found = any(f.code == self.intervention.code for f in findings)
        if self.terms.fresh:
            verdict, reason = self._fresh_verdict(comparison)
        elif self.terms.must_improve:
            verdict, reason = comparison.verdict_on_pace
        else:
            verdict, reason = comparison.verdict(
                self.remedy, self.intervention.code, still_found=still_found
            )
        return self._outcome(history.step, verdict, reason, comparison)

    def _fresh_verdict(self, comparison: Comparison) -> tuple[Verdict, str]:
        """Return the verdict on a run that began again.

        Where the first weights were off scale, a loss no higher than that of guessing shows that
        the new ones are not; whether they learn fast enough is another question.
        """
        now, first = comparison.after.loss, self.terms.first
        if self._is_back_on_scale(comparison):
            return Verdict.KEPT, f"begun again, the loss is {now:.4g}; it began at {first:.4g}"
        if self._is_tamed(comparison):
            return Verdict.KEPT, f"begun again, the loss is {now:.4g}, and no longer overshoots"
        return comparison.fresh_verdict

    def _is_tamed(self, comparison: Comparison) -> bool:
        """Whether steps that had driven the loss above that of guessing do so no more.

        They may be too short now; that is another question.
        """
        calm = comparison.after.is_finite and not (comparison.worse or comparison.better)
        return self.terms.overshot and self.remedy.name == SHORTENS and calm

    def _is_back_on_scale(self, comparison: Comparison) -> bool:
        """Whether fresh weights have brought down a loss that began far above that of guessing."""
        now = comparison.after
        off_scale = self.terms.first > OFF_SCALE * now.loss > 0.0
        return self.remedy.renews and off_scale and now.is_finite and not comparison.worse

    def _is_over(self, history: History) -> bool:
        losses = history[LOSS].since(self.step)
        if not len(losses):
            return False
        if self._is_broken(losses.values) or self._is_clear(losses.values):
            return True
        # Recorded steps count, not steps made: what is recorded may arrive a little later.
        made = int(losses.steps[-1]) + 1 - self.step
        if made < self.terms.probation_steps or self._is_promising(losses.values):
            return False
        watched = history[self.remedy.watched].since(self.step)
        return self.remedy.watched == LOSS or len(watched) >= VALIDATIONS

    def _is_broken(self, losses: Any) -> bool:
        latest = losses[-BROKEN_ROWS:]
        # What is safe may wait for the run to recover; the next remedy should not.
        may_end = self.remedy.safety is not Safety.SAFE
        return may_end and len(latest) == BROKEN_ROWS and not np.isfinite(latest).any()

    def _is_clear(self, losses: Any) -> bool:
        """Whether a run that began again shows after half of its way what the remedy is worth.

        Either there is not the least gain, or fresh weights have brought down a loss off scale:
        then the rest of the way is better spent on what makes it learn.
        """
        if not self.terms.fresh or len(losses) < max(LEAST_STEPS, self.terms.probation_steps // 2):
            return False
        now = Comparison(self.terms.before, Level.of(losses[-max(1, len(losses) // 2) :]))
        if self._is_back_on_scale(now):
            return True
        gone = progress(losses)
        return not now.better and gone.least <= 0 and gone.slope >= 0 and gone.most < MATERIAL

    def _is_promising(self, losses: Any) -> bool:
        """Whether a run that began again falls, though not far enough yet, and may be given time.

        Deep networks stay near the loss of guessing for a while before they learn.
        """
        if not self.terms.fresh or len(losses) >= PATIENT * self.terms.probation_steps:
            return False
        now = Comparison(self.terms.before, Level.of(losses[-_width(self.terms.probation_steps) :]))
        gone = progress(losses)
        return not (now.better or now.worse) and gone.slope < 0.0 and gone.least > 0.0

    def _compare(self, history: History) -> Comparison:
        since = history[self.remedy.watched].since(self.step)
        rows = _width(self.terms.probation_steps)
        if self.remedy.watched != LOSS:
            rows = VALIDATIONS
        elif len(since) < self.terms.probation_steps:
            rows = max(1, len(since) // 2) if self._is_clear(since.values) else BROKEN_ROWS
        drift = self.terms.pace * min(len(since), self.terms.probation_steps)
        return Comparison(self.terms.before, Level.of(since.tail(rows).values), drift)

    def is_slow(self, history: History, steps_left: int) -> bool:
        """Whether a run that is to learn faster will not have halved its loss by the end."""
        if not (self.terms.fresh or self.terms.must_improve):
            return False
        gone = max(1, history.step - self.step)
        return self._compare(history).fall * (1 + steps_left / gone) < ENOUGH

    def unfinished(self, history: History) -> Outcome:
        """Return the outcome of a trial that the end of training has cut short."""
        comparison = self._compare(history)
        steps = history.step - self.step
        reason = f"training ended after {steps} of {self.terms.probation_steps} steps of probation"
        return self._outcome(history.step, Verdict.UNFINISHED, reason, comparison)

    def _outcome(self, step: int, verdict: Verdict, reason: str, comparison: Comparison) -> Outcome:
        made = self.intervention
        before, after = comparison.before.plain, comparison.after.plain
        if self.terms.fresh:
            before["begun_again"] = True
        return Outcome(made.number, step, made.remedy, made.code, verdict, reason, before, after)

    def settle(self, run: Run, outcome: Outcome, history: History) -> None:
        """Act on the outcome: where it is *reverted*, undo the change.

        A run that began again with other weights or another structure, and keeps them, has its
        first state there from then on.

        Where the weights are worse than before the remedy, or the remedy has changed them, the
        state before it is restored too.
        """
        if outcome.verdict is not Verdict.REVERTED:
            if self._beginning is not None:
                run.snapshots.begin_with(self._beginning)
            return
        self.remedy.revert(run, self.change)
        if self.snapshot is not None and self._is_damaged(run, history):
            self.snapshot.restore(run, schedule=False)

    def _is_damaged(self, run: Run, history: History) -> bool:
        """Whether the weights of before the remedy are to be put back."""
        if self.remedy.renews or not self._compare(history).worse:
            return self.remedy.renews
        found = setback(run, self.snapshot)
        return found is None or not found.elsewhere

    def state_dict(self) -> dict[str, Any]:
        """Return the trial in plain types and tensors."""
        return {
            "remedy": self.remedy.name,
            "settings": asdict(self.remedy),
            "intervention": to_plain(self.intervention),
            "undo": dict(self.change.undo),
            "terms": asdict(self.terms),
            "snapshot": None if self.snapshot is None else self.snapshot.state_dict(),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Trial:
        """Return the trial that ``state_dict`` described.

        Raises:
            ValueError: If its remedy is not known to this version.
        """
        known = by_name()
        if state["remedy"] not in known:
            raise ValueError(
                f"expected one of the remedies {', '.join(known)}, "
                f"but the checkpoint holds a trial of {state['remedy']!r}"
            )
        intervention = from_plain(Intervention, state["intervention"])
        snapshot = state["snapshot"]
        return cls(
            known[state["remedy"]](**state["settings"]),
            intervention,
            Change(intervention.before, intervention.after, state["undo"]),
            Terms(**{**state["terms"], "before": Level(**state["terms"]["before"])}),
            None if snapshot is None else Snapshot.from_state_dict(snapshot),
        )


def _width(probation_steps: int) -> int:
    """Return over how many steps a level is taken: half a probation, the other half is settling."""
    return max(1, probation_steps // 2)


def _first_loss(history: History) -> float:
    losses = history[LOSS].values
    first = float(losses[0]) if len(losses) else 0.0
    return first if math.isfinite(first) else math.inf


def _rows_before(history: History, remedy: Remedy, step: int, probation_steps: int) -> Any:
    """Return the values of the signal that the remedy is judged by, before it."""
    rows = _width(probation_steps) if remedy.watched == LOSS else VALIDATIONS
    return history[remedy.watched].until(max(1, step)).tail(rows).values


def _level_of_state(run: Run, state: Snapshot, probation_steps: int, *, fresh: bool) -> Level:
    """Return where the loss was when ``state`` was taken; of fresh weights, that of guessing."""
    untrained = untrained_loss(run.history)
    if fresh and untrained is not None:
        return Level.of([untrained])
    return Level.of(
        run.history[LOSS].until(max(1, state.step)).tail(_width(probation_steps)).values
    )


def _pace(history: History, remedy: Remedy, step: int, probation_steps: int) -> float:
    """Return by how much the watched signal changes a row at its present pace, if not by chance.

    A training loss that rises is to be brought down, not to rise less.
    """
    before = history[remedy.watched].until(max(1, step)).finite
    if remedy.watched != LOSS:
        recent = before.tail(2 * VALIDATIONS).values
        return float(theil_sen(recent)) if len(recent) >= VALIDATIONS else 0.0
    gone = progress(before.tail(probation_steps).values)
    return min(0.0, gone.slope * gone.scale)
