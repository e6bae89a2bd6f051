"""A trial: a remedy on probation, which is kept or reverted by what the loss does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lightning_plateau.core.chance import untrained_loss
from lightning_plateau.core.finding import Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.plain import from_plain, to_plain
from lightning_plateau.core.progress import progress
from lightning_plateau.core.remedy import Change, Intervention, Outcome, Remedy, Safety, Verdict
from lightning_plateau.core.signal import LOSS
from lightning_plateau.remedies import by_name
from lightning_plateau.training.run import Run
from lightning_plateau.training.snapshot import Snapshot
from lightning_plateau.treatment.choice import SHORTENS
from lightning_plateau.treatment.comparison import ENOUGH, MATERIAL, Comparison, Level
from lightning_plateau.treatment.setback import setback
from lightning_plateau.treatment.terms import (
    VALIDATIONS,
    Terms,
    first_loss,
    level_of_state,
    pace_before,
    rows_before,
    width,
)

BROKEN_ROWS = 10
"""So many losses in a row that are not finite end a trial at once."""
LEAST_STEPS = 20
"""Steps after which a run that began again and learns nothing at all is given up, at the least."""
PATIENT = 3
"""Probations that a run which began again is given while its loss falls."""
FAR_ABOVE = 2.0
"""How many times the loss of guessing is that of a run which has lost what it had learned."""
OFF_SCALE = 3.0
"""How many times as high as that of guessing a first loss is that shows weights off scale."""


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
        whose network is spoilt goes back to its first weights, and must come to more from there
        than it had. One that is sound and only too slow goes on from where it is.

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
        before = Level.of(rows_before(run.history, remedy, run.step, probation_steps))
        # What was kept of a network that the first steps have spoilt is no better.
        ruined = run.ruined
        target = run.snapshots.initial if ruined else run.snapshots.latest(before=run.step)
        fresh, back, lost, pace = (
            False,
            {},
            before,
            pace_before(run.history, remedy, run.step, probation_steps),
        )
        if snapshot is not None and target is not None and run.worthless and not must_improve:
            # First: what the remedy does to the weights must last.
            target.restore(run, schedule=False)
            fresh = target is run.snapshots.initial
            begun = level_of_state(run, target, probation_steps, fresh=fresh)
            before = min(begun, lost, key=lambda level: level.loss) if ruined else begun
            back, pace = {"state_of_step": target.step}, 0.0
        change = remedy.apply(run)
        left = {"state_of_step": run.step} if back else {}
        was, now = {**change.before, **left}, {**change.after, **back}
        made = Intervention(number, run.step, remedy.name, finding.code, was, now)
        first = first_loss(run.history) if fresh else 0.0
        overshot = fresh and Comparison(before, lost).worse
        terms = Terms(before, probation_steps, pace, fresh, must_improve, first, overshot, ruined)
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
        if self._is_destroyed(history):
            verdict, reason = Verdict.REVERTED, "the loss leapt to more than twice that of guessing"
        elif self.terms.fresh:
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
        if self._is_destroyed(history):
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

    def _is_destroyed(self, history: History) -> bool:
        """Whether a run that had learned something is far worse than one that has learned nothing.

        Whatever the remedy is judged by: no better validation comes of that.
        """
        if self.remedy.safety is Safety.SAFE or self.remedy.renews or self.terms.fresh:
            return False
        losses, untrained = history[LOSS], untrained_loss(history)
        latest = losses.since(self.step).values[-BROKEN_ROWS:]
        before = losses.until(max(1, self.step)).tail(width(self.terms.probation_steps)).values
        if untrained is None or untrained <= 0.0 or len(latest) < BROKEN_ROWS or not len(before):
            return False
        learned = float(np.median(before)) < untrained
        return learned and float(np.median(latest)) > FAR_ABOVE * untrained

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
        now = Comparison(self.terms.before, Level.of(losses[-width(self.terms.probation_steps) :]))
        gone = progress(losses)
        told = now.better or (now.worse and not self.terms.ruined)
        return not told and gone.slope < 0.0 and gone.least > 0.0

    def _compare(self, history: History) -> Comparison:
        since = history[self.remedy.watched].since(self.step)
        rows = width(self.terms.probation_steps)
        if self.remedy.watched != LOSS:
            rows = VALIDATIONS
        elif len(since) < self.terms.probation_steps:
            rows = max(1, len(since) // 2) if self._is_clear(since.values) else BROKEN_ROWS
        drift = self.terms.pace * min(len(since), self.terms.probation_steps)
        return Comparison(self.terms.before, Level.of(since.tail(rows).values), drift)

    @property
    def is_estimate(self) -> bool:
        """Whether a run began again with shorter steps, by an estimate that may be too low."""
        return self.terms.fresh and self.remedy.name == SHORTENS

    def is_slow(self, history: History, steps_left: int) -> bool:
        """Whether a run that is to learn faster will be far from done by the end, at its pace.

        A loss falls by the same share in the same time, at best.
        """
        if not (self.terms.fresh or self.terms.must_improve):
            return False
        gone = max(1, history.step - self.step)
        left = max(0.0, 1.0 - self._compare(history).fall)
        return bool(left ** (1 + steps_left / gone) > 1.0 - ENOUGH)

    def is_open(self, history: History, steps_left: int) -> bool:
        """Whether a run is as slow as before, though a remedy was taken back.

        It may have come far by itself meanwhile. What has broken is not known to.
        """
        broken = not self._compare(history).after.is_finite
        return broken or steps_left <= 0 or self.is_slow(history, steps_left)

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

        Where the weights are worse than before the remedy, the remedy has changed them, or the run
        began again with it, the state before it is restored too.
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
        # A run that began again has made fewer steps than the one that was given up for it.
        if self.remedy.renews or self.terms.fresh or self._is_destroyed(history):
            return True
        if not self._compare(history).worse:
            return False
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
