"""Treatment: from findings to a remedy on trial, and from the trial to its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import filterfalse
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.fitting import fitting
from lightning_plateau.core.history import History
from lightning_plateau.core.journal import Journal, Note, Record
from lightning_plateau.core.remedy import Intervention, Outcome, Remedy, Safety, Verdict
from lightning_plateau.core.rise import rising
from lightning_plateau.core.signal import SKIPPED_STEPS
from lightning_plateau.core.updates import adaptive
from lightning_plateau.remedies import by_name
from lightning_plateau.remedies.quarantine_batch import QuarantineBatch
from lightning_plateau.remedies.skip_step import SkipStep
from lightning_plateau.training.optimizers import OptimizerAdapter
from lightning_plateau.training.run import Run, Snapshots
from lightning_plateau.treatment import rehearsal
from lightning_plateau.treatment.choice import Choice, Past, Withheld, choose
from lightning_plateau.treatment.in_force import InForce
from lightning_plateau.treatment.policy import Policy
from lightning_plateau.treatment.setback import setback
from lightning_plateau.treatment.tournament import FIRST_ROUND, MOST, Candidate, compete
from lightning_plateau.treatment.trial import LEAST_STEPS, Trial

Announce = Callable[[Record | Note], None]
EXTEND = "extend-training"
SMALL = 10_000_000
"""Parameters up to which a snapshot costs next to nothing."""
SNAPSHOTS = 8
"""Snapshots of a short run."""
SWITCH = "switch-optimizer"
FASTER = (SWITCH, "raise-learning-rate")
"""What makes a training faster that is sound but slow."""
TOO_LITTLE = frozenset({"LP401", "LP405", "LP407"})
"""Codes of runs whose steps may lead nowhere because they are of the wrong kind."""
LEARNED_BY_HEART, BY_ITSELF = 0.25, 0.1
"""Share of its loss that one batch must lose, and share of that by the run's own optimizer."""
SLOW = frozenset({"LP405"})
"""Codes of faults that are gone only where the loss falls faster than before."""
LAST_RESORT = frozenset({"LP401"})
"""Codes of symptoms that many causes share: for themselves they are treated later."""
FIRST_WEIGHTS = frozenset({"LP504", "LP505", "LP706"})
"""Codes of faults of the first weights."""
LATER = frozenset({"LP301", "LP406"})
"""Codes of what happens from the first step on, and cannot account for how the run began."""
PATIENCE = 200
"""Optimizer steps that they are given, at most; else a sixth of the run."""
DAMAGED = "LP102"
"""Code of data that are not finite."""
NON_FINITE_CODES = (DAMAGED, "LP201", "LP202")
"""Codes that a skipped step answers, the most telling first."""


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
        self._catalogue = by_name()
        self._permitted = policy.permitted(self._catalogue)
        self._trial: Trial | None = None
        self._case: tuple[Finding, ...] = ()
        self._planned_steps: int | None = None
        self._in_force = InForce()
        self._skipped: tuple[int, ...] = ()
        self._withheld: set[tuple[str, str]] = set()

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
        several = len(self._run.adapters) > 1
        return {
            f"{index}.{place}" if several else f"{place}": self._paced(index, place, group["lr"])
            for index, adapter in enumerate(self._run.adapters)
            for place, group in enumerate(adapter.optimizer.param_groups)
            if closely or not isinstance(group["lr"], Tensor)
        }

    def _paced(self, index: int, place: int, rate: Tensor | float) -> float:
        return self._run.paced(index, place, float(rate))

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
        self._run.snapshots.every_n_steps = snapshot_every(self._run.module, planned_steps)
        if state is not None:
            self._load(state)
        for kind in self._policy.from_the_start(self._catalogue):
            remedy = kind()
            obstacle = remedy.obstacle(self._run)
            if obstacle is None:
                remedy.apply(self._run)
            else:
                self._journal.append(Note(step, f"{remedy.name} cannot stand guard: {obstacle}"))
        # Lazy layers have no weights to go back to before their first batch.
        if self._wants_snapshots and not any(map(is_lazy, self._run.module.parameters())):
            self._run.snapshots.keep(self._run)

    @property
    def _wants_snapshots(self) -> bool:
        goes_back = any(kind.renews or kind.keeps_state for kind in self._permitted.values())
        return goes_back and not self._policy.dry_run

    @property
    def skipped_steps(self) -> tuple[int, ...]:
        """Steps that were skipped and told of: for the run they never were.

        Not so where every step is skipped: then the run itself is broken.
        """
        return () if self._run.broken else self._skipped

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
        self._try_next([f for f in findings if self._may_be_treated(f)])
        if self._wants_snapshots and self._is_well(findings):
            self._run.snapshots.keep(self._run)

    def _is_well(self, findings: Sequence[Finding]) -> bool:
        """Whether a snapshot is due, and the run in a state that is worth going back to."""
        if not self._run.snapshots.due(self.step):
            return False
        sick = any(finding.severity is not Severity.INFO for finding in findings)
        return not (sick or self._run.worthless or rising(self._run.history))

    @property
    def may_extend(self) -> bool:
        """Whether the policy lets a training go on beyond its planned end."""
        return self._policy.allow_user_overrides and EXTEND in self._permitted

    def _extend(self, findings: Sequence[Finding]) -> None:
        """Let a training go on that is about to end while it still learns."""
        self._planned_steps = None
        self._try_next([f for f in findings if EXTEND in f.remedies])

    def tell_skipped(self, history: History, findings: Sequence[Finding]) -> bool:
        """Write down the steps that were skipped since; return whether there were any."""
        self._run.refresh(history)
        series = history[SKIPPED_STEPS]
        steps = series.steps[np.nan_to_num(series.values) > 0]
        new = tuple(int(step) for step in steps if int(step) not in set(self._skipped))
        codes = {finding.code for finding in findings}
        code = next((code for code in NON_FINITE_CODES if code in codes), None)
        if not new or code is None or self._run.broken:
            return False
        self._skipped = (*self._skipped, *new)
        number = self._next_number
        total = len(self._skipped)
        made = Intervention(
            number,
            new[0],
            SkipStep.name,
            code,
            {"skipped_steps": total - len(new)},
            {"skipped_steps": total},
        )
        self._record(made)
        reason = f"{len(new)} steps were left out exactly, the first at step {new[0]}"
        outcome = Outcome(number, self.step, SkipStep.name, code, Verdict.KEPT, reason)
        self._journal.append(outcome)
        if code == DAMAGED:
            self._quarantine()
        return True

    def _quarantine(self) -> None:
        """Remember the batches whose data broke a step. There is nothing to be watched."""
        remedy = QuarantineBatch()
        barred = remedy.name not in self._permitted or self._policy.dry_run
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
        obstacles = self._obstacles()
        choice = self._choose(findings, obstacles, urgent=urgent)
        for withheld in choice.withheld:
            self._tell_withheld(withheld)
        if choice.remedy is None or choice.finding is None or self._is_elsewhere(choice):
            return
        best = Candidate(choice.remedy, choice.finding)
        if self._policy.tournament and not self._is_safe(choice.remedy.name):
            best = self._best_of(findings, best, obstacles, urgent=urgent)
        if best.remedy is not None and best.finding is not None:
            self._case = tuple(findings)
            pace = best.finding.code in SLOW
            self._try(best.remedy, best.finding, must_improve or pace)

    def _is_elsewhere(self, choice: Choice) -> bool:
        """Whether nothing is to be treated: the loss rose because of what is trained on."""
        if choice.remedy is None or choice.finding is None or self._is_safe(choice.remedy.name):
            return False
        found = setback(self._run, self._run.snapshots.latest(before=self.step))
        if found is None or not found.elsewhere:
            return False
        self._tell_withheld(Withheld(choice.finding.code, choice.remedy.name, str(found)))
        return True

    def _choose(
        self, findings: Sequence[Finding], obstacles: Mapping[str, str], *, urgent: bool
    ) -> Choice:
        unsafe = tuple(m for m in self._journal.interventions if not self._is_safe(m.remedy))
        outcomes = tuple(o for o in self._journal.outcomes if not self._is_safe(o.remedy))
        past = Past(unsafe, outcomes)
        return choose(
            findings, self._policy, self._catalogue, past, self.step, obstacles, urgent=urgent
        )

    def _best_of(
        self,
        findings: Sequence[Finding],
        first: Candidate,
        obstacles: Mapping[str, str],
        *,
        urgent: bool,
    ) -> Candidate:
        """Return the winner among all that could be tried now; ``first`` where none is better."""
        candidates, taken = [first], dict(obstacles)
        while len(candidates) < MOST:
            taken[candidates[-1].name] = "it is compared"
            choice = self._choose(findings, taken, urgent=urgent)
            if choice.remedy is None or choice.remedy.final:
                break
            candidates.append(Candidate(choice.remedy, choice.finding))
        batches = tuple(self._run.batches)
        if len(candidates) < 2 or not batches or self._policy.dry_run:
            return first
        obstacle = rehearsal.obstacle(self._run)
        if obstacle is not None:
            self._journal.append(Note(self.step, f"no tournament: {obstacle}"))
            return first
        standings = compete(self._run, candidates, batches)
        told = ", ".join(f"{s.candidate.name} {s.loss:.4g}" for s in standings)
        self._journal.append(
            Note(self.step, f"tournament, loss after {FIRST_ROUND} steps or more: {told}")
        )
        best = standings[0].candidate
        return first if best.remedy is None else best

    def _may_be_treated(self, finding: Finding) -> bool:
        """Whether it is a fault, and time: a plateau at the start often ends by itself."""
        if finding.severity is Severity.INFO:
            return False
        planned = PATIENCE if self._planned_steps is None else self._planned_steps // 6
        return finding.code not in LAST_RESORT or self.step >= min(PATIENCE, planned)

    @property
    def _is_too_late(self) -> bool:
        """Whether the run ends before a remedy could be judged."""
        if self._planned_steps is None:
            return False
        left = self._planned_steps - self.step
        return left < (LEAST_STEPS if self._run.worthless else self._policy.probation_steps)

    def _is_safe(self, remedy: str) -> bool:
        return remedy in self._catalogue and self._catalogue[remedy].safety is Safety.SAFE

    def _obstacles(self) -> dict[str, str]:
        obstacles = {}
        for name, kind in self._permitted.items():
            obstacle = kind().obstacle(self._run)
            if self._is_too_late and not self._is_safe(name):
                obstacle = "the run ends before it could be judged"
            if obstacle is None and kind.standing and self._is_safe(name):
                obstacle = "it is in force already"
            if obstacle is not None:
                obstacles[name] = obstacle
        return obstacles

    def _tell_withheld(self, withheld: Withheld) -> None:
        key = (withheld.code, withheld.remedy)
        if withheld.remedy in self._permitted and key not in self._withheld:
            self._withheld.add(key)
            text = f"withheld {withheld.remedy} for {withheld.code}: {withheld.reason}"
            self._journal.append(Note(self.step, text))

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

    def _go_on(self, trial: Trial, outcome: Outcome, history: History) -> None:
        """Go on at once where a run that is worth nothing was not helped, or not enough.

        The next remedy takes the place of one that has failed. What began to learn too slowly to
        come anywhere by the end is given longer or better steps on top.
        """
        if outcome.verdict is Verdict.REVERTED:
            if self._run.worthless or trial.terms.must_improve:
                self._try_next(self._case, must_improve=trial.terms.must_improve)
        elif self._planned_steps and trial.is_slow(history, self._planned_steps - self.step):
            slow = [f for f in self._case if f.code == outcome.code]
            self._try_next([replace(f, remedies=FASTER) for f in slow], must_improve=True)

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
            "skipped": list(self._skipped),
            "withheld": sorted(list(pair) for pair in self._withheld),
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
        self._skipped = tuple(state["skipped"])
        self._withheld = {(code, remedy) for code, remedy in state["withheld"]}


def other_steps_first(findings: Sequence[Finding], history: History) -> tuple[Finding, ...]:
    """Return the findings with the remedy first that an experiment speaks for.

    Where a batch is learned by heart with Adam, and not with the run's own optimizer, which scales
    its steps with the gradient, other steps are what the run lacks, not longer ones.
    """
    fitted = fitting(history)
    by_adam_alone = (
        fitted is not None
        and fitted.best >= LEARNED_BY_HEART
        and not fitted.own > BY_ITSELF * fitted.best
    )
    if not by_adam_alone or adaptive(history):
        return tuple(findings)
    return tuple(
        replace(f, remedies=(SWITCH, *(name for name in f.remedies if name != SWITCH)))
        if f.code in TOO_LITTLE and f.remedies
        else f
        for f in findings
    )


def snapshot_every(module: nn.Module, planned_steps: int | None) -> int:
    """Return the optimizer steps between two snapshots: a short run of a small network gets eight.

    Those of a large one take their time, and are taken more rarely.

    Example:
        >>> [snapshot_every(nn.Linear(3, 3), steps) for steps in (100, 800, 100_000, None)]
        [20, 100, 500, 500]
    """
    usual = Snapshots.every_n_steps
    if planned_steps is None or _elements(module) > SMALL:
        return usual
    return min(usual, max(LEAST_STEPS, planned_steps // SNAPSHOTS))


def _elements(module: nn.Module) -> int:
    """Return how many numbers a module has; lazy layers that have no shape yet count for none."""
    return sum(p.numel() for p in filterfalse(is_lazy, module.parameters()))


def start_over(finding: Finding, journal: Journal, step: int) -> Finding | None:
    """Return the verdict on a training whose fault came back; None where nothing was kept in vain.

    Args:
        finding: What came back.
        journal: What was done.
        step: Optimizer step.
    """
    kept = [o for o in journal.outcomes if o.code == finding.code and o.verdict is Verdict.KEPT]
    if not kept:
        return None
    made = {one.number: one.step for one in journal.interventions}
    tried = ", ".join(f"{o.remedy} at step {made.get(o.number, o.step)}" for o in kept)
    return Finding(
        "LP910",
        "start-over",
        step,
        Severity.WARNING,
        1.0,
        f"{finding.code} {finding.name} came back after each of {len(kept)} remedies: {tried}",
        why="more of the same will not help",
        fix="look at what happens in the training at these steps, before it is begun again",
        explains=(finding.code,),
    )


def first_weights_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings of a run that may begin again in the order in which to treat them.

    Where the first weights are off scale, steps that are too long may be but what comes of it; no
    rate and no limit mends such weights, and to begin again with better ones costs nothing.
    """
    later = next((i for i, f in enumerate(findings) if f.code in LATER), None)
    if later is None:
        return tuple(findings)
    early = [
        replace(f, explained_by="")
        for f in findings[later:]
        if f.code in FIRST_WEIGHTS and f.explained_by in ("", *LATER)
    ]
    codes = {finding.code for finding in early}
    return (*findings[:later], *early, *(f for f in findings[later:] if f.code not in codes))


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
