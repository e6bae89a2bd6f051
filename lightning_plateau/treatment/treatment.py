"""Treatment: from findings to a remedy on trial, and from the trial to its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal, Note, Record
from lightning_plateau.core.progress import hidden_by_noise
from lightning_plateau.core.remedy import Intervention, Outcome, Remedy, Verdict
from lightning_plateau.core.rise import rising
from lightning_plateau.core.updates import adaptive
from lightning_plateau.remedies.quarantine_batch import QuarantineBatch
from lightning_plateau.remedies.roll_back import RollBack
from lightning_plateau.training.optimizers import OptimizerAdapter
from lightning_plateau.training.run import Run
from lightning_plateau.treatment.in_force import InForce
from lightning_plateau.treatment.leap import LEAP, last_leap, worth_going_back
from lightning_plateau.treatment.options import Options
from lightning_plateau.treatment.order import (
    SWITCH,
    TOO_LITTLE,
    back_first,
    first_weights_first,
    other_steps_first,
)
from lightning_plateau.treatment.policy import Policy
from lightning_plateau.treatment.rates import Rates
from lightning_plateau.treatment.skipped import DAMAGED, SkippedSteps, answered
from lightning_plateau.treatment.snapshot_pace import snapshot_every
from lightning_plateau.treatment.start_over import start_over
from lightning_plateau.treatment.trial import Trial

Announce = Callable[[Record | Note], None]
EXTEND = "extend-training"
FASTER = (SWITCH, "raise-learning-rate")
"""What makes a training faster that is sound but slow."""
SLOW = frozenset({"LP405"})
"""Codes of faults that are gone only where the loss falls faster than before."""
LAST_RESORT = frozenset({"LP401"})
"""Codes of symptoms that many causes share: for themselves they are treated later."""
PATIENCE = 200
"""Optimizer steps that they are given where no end is planned; else their rules wait themselves."""
EVEN = 0.5
"""Confidence below which a fault is rather not there than there: no reason to change a training."""


class Treatment:
    """Treats one run: guards every step, and tries one remedy at a time.

    Args:
        run: The run.
        policy: What may be done.
        journal: Where it is written down.
        announce: Says a record as it happens.

    Attributes:
        episode_step: Optimizer step of the last treatment.
        verdict: Why the training was stopped, if a fault came back whatever was done; the caller
            tells it.
    """

    def __init__(self, run: Run, policy: Policy, journal: Journal, announce: Announce) -> None:
        self.episode_step = 0
        self.verdict: Finding | None = None
        self._run = run
        self._policy = policy
        self._journal = journal
        self._announce = announce
        self._options = Options(run, policy, journal)
        self._trial: Trial | None = None
        self._case: tuple[Finding, ...] = ()
        self._planned_steps: int | None = None
        self._in_force = InForce()
        self._skipped = SkippedSteps()
        self._rates = Rates(run)

    # -- the path of a step ---------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Optimizer steps made."""
        return self._run.step

    @step.setter
    def step(self, step: int) -> None:
        self._run.step = step

    def adapter_of(self, optimizer: Any) -> tuple[int, OptimizerAdapter]:
        """Return the position and the adapter of an optimizer of the run.

        Raises:
            LookupError: If the Trainer's optimizers were replaced since training started.
        """
        for index, adapter in enumerate(self._run.adapters):
            if adapter.optimizer is optimizer:
                return index, adapter
        kind = type(optimizer).__name__
        raise LookupError(f"expected an optimizer of the start of training, but received {kind}")

    def learning_rates(self, *, closely: bool = False) -> dict[str, float]:
        """Return the learning rate of each group by label.

        Args:
            closely: Whether to read rates that are tensors too, which may wait for the device.
        """
        return self._rates.read(closely=closely)

    def before_batch(self, first_of_window: bool) -> None:
        """See ``Guard.before_batch``."""
        self._run.guard.before_batch(first_of_window)

    def before_step(self, adapter: OptimizerAdapter, norms: Tensor) -> None:
        """See ``Guard.before_step``."""
        norms = self._run.judged(norms)
        self._run.guard.before_step(adapter, norms, clipped_next=not adapter.manual)

    def after_step(self) -> Tensor | bool:
        """See ``Guard.after_step``."""
        return self._run.guard.after_step()

    @contextmanager
    def given(self, batch: Any) -> Iterator[None]:
        """Let remedies see the batch under way."""
        self._run.batch = batch
        try:
            yield
        finally:
            self._run.batch = None

    def note_batch(self, batch: Any) -> None:
        """Keep the latest batches where remedies are to be compared on them."""
        if self._policy.tournament:
            self._run.batches.append(batch)

    # -- the life of a run ----------------------------------------------------------------------

    def start(self, step: int, planned_steps: int | None, state: Mapping[str, Any] | None) -> None:
        """Put the standing guards in force, or continue from ``state``.

        Args:
            step: Optimizer steps made.
            planned_steps: Optimizer steps that the run is to make, where known.
            state: What ``state_dict`` returned, for a resumed run.
        """
        self._run.step = step
        self._run.allow_user_overrides = self._policy.allow_user_overrides
        self._policy = self._policy.within(planned_steps)
        self._planned_steps = planned_steps
        self._options.policy, self._options.planned_steps = self._policy, planned_steps
        self._run.snapshots.every_n_steps = snapshot_every(self._run.module, planned_steps)
        if state is not None:
            self._load(state)
        self._options.stand_guard()
        # Lazy layers have no weights to go back to before their first batch.
        if self._wants_snapshots and not any(map(is_lazy, self._run.module.parameters())):
            self._run.snapshots.keep(self._run)

    @property
    def _wants_snapshots(self) -> bool:
        goes_back = any(
            kind.renews or kind.keeps_state for kind in self._options.permitted.values()
        )
        return goes_back and not self._policy.dry_run

    @property
    def skipped_steps(self) -> tuple[int, ...]:
        """Steps that were skipped and told of: for the run they never were.

        Not so where every step is skipped: then the run itself is broken.
        """
        return () if self._run.broken else self._skipped.steps

    @property
    def on_trial(self) -> bool:
        """Whether a remedy is on probation."""
        return self._trial is not None

    @property
    def trial(self) -> Intervention | None:
        """The remedy that is on probation; None where there is none."""
        return None if self._trial is None else self._trial.intervention

    @property
    def treated_codes(self) -> frozenset[str]:
        """Codes of the findings that something was done about and not taken back."""
        reverted = {o.number for o in self._journal.outcomes if o.verdict is Verdict.REVERTED}
        return frozenset(
            made.code
            for made in self._journal.interventions
            if not made.dry_run and made.number not in reverted
        )

    def consider(self, history: History, findings: Sequence[Finding]) -> None:
        """Judge the trial under way, or choose what to try next.

        Args:
            history: What was recorded so far, as ``tell_skipped`` was given it.
            findings: What is wrong now, the most probable cause first.
        """
        if self._trial is not None:
            outcome = self._trial.judge(history, findings)
            if outcome is not None:
                trial = self._trial
                self._settle(trial, outcome, history)
                self._go_on(trial, outcome, history)
            return
        if history.finished:
            self._extend(findings)
            return
        if self.makes_the_last_step:
            self._end_well()
            return
        self._try_next([f for f in findings if self._may_be_treated(f)])
        due = self._wants_snapshots and self._run.snapshots.due(self.step)
        if due and self._is_sound(findings):
            self._run.snapshots.keep(self._run)

    @property
    def makes_the_last_step(self) -> bool:
        """Whether the training is at its planned end and, where that is a leap, may go back."""
        at_the_end = self.step == self._planned_steps  # on each step but one it ends here
        return at_the_end and self._wants_snapshots and RollBack.name in self._options.permitted

    def _end_well(self) -> None:
        """Go back to the last weights that were well where a training ends in a leap."""
        leap, remedy = last_leap(self._run), RollBack()
        if leap is None or remedy.obstacle(self._run) is not None:
            return
        number, change = self._next_number, remedy.apply(self._run)
        made = Intervention(number, self.step, remedy.name, LEAP, change.before, change.after)
        self._record(made)
        reason = (
            f"the training ended in a leap: on the last batch the loss is {leap.now:.4g}, and "
            f"{leap.earlier:.4g} with the weights of step {leap.step}"
        )
        outcome = Outcome(number, self.step, remedy.name, LEAP, Verdict.KEPT, reason)
        self._journal.append(outcome)
        self._announce(outcome)

    def _is_sound(self, findings: Sequence[Finding]) -> bool:
        """Whether the run is in a state that is worth going back to."""
        sick = any(finding.severity is not Severity.INFO for finding in findings)
        return not (sick or self._run.worthless or rising(self._run.history))

    @property
    def may_extend(self) -> bool:
        """Whether the policy lets a training go on beyond its planned end."""
        return self._policy.allow_user_overrides and EXTEND in self._options.permitted

    def _extend(self, findings: Sequence[Finding]) -> None:
        """Let a training go on that is about to end while it still learns."""
        self._planned_steps = self._options.planned_steps = None
        self._try_next([f for f in findings if EXTEND in f.remedies])

    def tell_skipped(self, history: History, findings: Sequence[Finding]) -> bool:
        """Write down the steps that were skipped since; return whether there were any."""
        self._run.refresh(history)
        new, code = self._skipped.since(history), answered(findings)
        if not new or code is None or self._run.broken:
            return False
        made = self._skipped.tell(new, code, self._next_number)
        self._record(made)
        reason = f"{len(new)} steps were left out exactly, the first at step {new[0]}"
        outcome = Outcome(made.number, self.step, made.remedy, code, Verdict.KEPT, reason)
        self._journal.append(outcome)
        if code == DAMAGED:
            self._quarantine()
        return True

    def _quarantine(self) -> None:
        """Remember the batches whose data broke a step. There is nothing to be watched."""
        remedy = QuarantineBatch()
        barred = remedy.name not in self._options.permitted or self._policy.dry_run
        if barred or remedy.obstacle(self._run) is not None:
            return
        number, change = self._next_number, remedy.apply(self._run)
        made = Intervention(number, self.step, remedy.name, DAMAGED, change.before, change.after)
        self._record(made)
        reason = "its steps are left out already, and it is left out where it comes again"
        self._journal.append(Outcome(number, self.step, remedy.name, DAMAGED, Verdict.KEPT, reason))
        self._in_force.add(remedy, change)

    @property
    def _next_number(self) -> int:
        return max((made.number for made in self._journal.interventions), default=0) + 1

    def _try_next(self, findings: Sequence[Finding], *, must_improve: bool = False) -> None:
        if not findings:
            return
        urgent = must_improve or self._run.worthless
        if self._run.worthless:
            findings = other_steps_first(first_weights_first(findings), self._run.history)
        else:
            findings = back_first(findings)
        best = self._options.best(findings, urgent=urgent)
        if best.remedy is not None and best.finding is not None:
            self._case = tuple(findings)
            pace = best.finding.code in SLOW
            self._try(best.remedy, best.finding, must_improve or pace)

    def _may_be_treated(self, finding: Finding) -> bool:
        """Whether it is a fault, and time: a plateau at the start often ends by itself."""
        if finding.severity is Severity.INFO or finding.confidence < EVEN:
            return False
        if finding.code == LEAP and not worth_going_back(self._run, finding):
            return False
        if finding.code in TOO_LITTLE and hidden_by_noise(self._run.history):
            return False
        endless = self._planned_steps is None
        return finding.code not in LAST_RESORT or not endless or self.step >= PATIENCE

    def _try(self, remedy: Remedy, finding: Finding, must_improve: bool) -> None:
        number = self._next_number
        if self._policy.dry_run:
            made = Intervention(number, self.step, remedy.name, finding.code, dry_run=True)
            self._record(made)
            return
        probation = self._policy.probation_steps
        trial = Trial.start(
            self._run, remedy, finding, number, probation, must_improve=must_improve
        )
        self._record(trial.intervention)
        if remedy.final:
            self.verdict = start_over(finding, self._journal, self.step)
            return
        self._trial = trial
        self.episode_step = self.step

    def _settle(self, trial: Trial, outcome: Outcome, history: History) -> None:
        trial.settle(self._run, outcome, history)
        self._trial = None
        self._journal.append(outcome)
        self._announce(outcome)
        if outcome.verdict is Verdict.REVERTED:
            self.episode_step = self.step
        else:
            self._in_force.add(trial.remedy, trial.change)
            if outcome.verdict is Verdict.KEPT and self._wants_snapshots and self._is_sound(()):
                self._run.snapshots.keep(self._run)

    def _go_on(self, trial: Trial, outcome: Outcome, history: History) -> None:
        """Go on at once where a run that is worth nothing was not helped, or not enough.

        The next remedy takes the place of one that has failed. What began to learn too slowly to
        come anywhere by the end, or with steps whose length is but an estimate, is given longer or
        better steps on top: better ones first where it has none that adapt to the gradients.
        """
        left = (self._planned_steps or 0) - self.step
        if outcome.verdict is Verdict.REVERTED:
            if self._run.worthless or (trial.terms.must_improve and trial.is_open(history, left)):
                self._try_next(self._case, must_improve=trial.terms.must_improve)
        elif left > 0 and (trial.is_estimate or trial.is_slow(history, left)):
            slow = [f for f in self._case if f.code == outcome.code]
            faster = FASTER[::-1] if adaptive(history) else FASTER
            self._try_next([replace(f, remedies=faster) for f in slow], must_improve=True)

    def _record(self, made: Intervention) -> None:
        self._journal.append(made)
        self._announce(made)

    def end(self, history: History, findings: Sequence[Finding]) -> None:
        """Close the trial under way: training has ended."""
        if self._trial is not None:
            trial, self._trial = self._trial, None
            outcome = trial.judge(history, findings)
            if outcome is None or outcome.verdict is Verdict.REVERTED:
                outcome = trial.unfinished(history)
            self._journal.append(outcome)
            self._announce(outcome)

    def release(self) -> None:
        """Take everything off the training that was put on it."""
        self._run.close()

    # -- resume ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return guard, trial and counts in plain types and tensors."""
        return {
            "guard": self._run.guard.state_dict(),
            "snapshots": self._run.snapshots.state_dict(),
            "trial": None if self._trial is None else self._trial.state_dict(),
            "episode_step": self.episode_step,
            "in_force": self._in_force.state_dict(),
            "skipped": list(self._skipped.steps),
            "withheld": self._options.told(),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._run.guard.load_state_dict(state["guard"])
        self._run.snapshots.load_state_dict(state["snapshots"])
        self._trial = None if state["trial"] is None else Trial.from_state_dict(state["trial"])
        self._in_force.load_state_dict(state.get("in_force", {}))  # the first states had none
        self._in_force.resume(self._run, optimizers=False)
        if self._trial is not None and not self._trial.remedy.replaces_optimizer:
            self._trial.remedy.resume(self._run, self._trial.change)
        self.episode_step = state["episode_step"]
        self._skipped.steps = tuple(state["skipped"])
        self._options.load(state["withheld"])


def resume_optimizers(run: Run, state: Mapping[str, Any]) -> None:
    """Replace the optimizers of a resumed run as they were when its checkpoint was written.

    To be called before Lightning loads their state.

    Args:
        run: The run as it was configured.
        state: What ``Treatment.state_dict`` returned.
    """
    in_force = InForce()
    in_force.load_state_dict(state.get("in_force", {}))
    in_force.resume(run, optimizers=True)
    trial = None if state["trial"] is None else Trial.from_state_dict(state["trial"])
    if trial is not None and trial.remedy.replaces_optimizer:
        trial.remedy.resume(run, trial.change)
