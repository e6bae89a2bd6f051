"""One worker of a study: it makes trials until the study has as many as are planned."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, GridSampler
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_plateau.tuning.fault import shared_fault
from lightning_plateau.tuning.samplers import SamplerName, make_sampler
from lightning_plateau.tuning.space import Space
from lightning_plateau.tuning.widening import widened

ERROR, SURPLUS = "error", "surplus"
STOPPED, SPACE, WIDENED, WORKER = "stopped", "space", "widened", "worker "
ENOUGH_ERRORS = 3
PAUSE_S, AT_ONCE_S = 0.2, 60.0
Direction = Literal["minimize", "maximize"]
Run = Callable[[Trial, Space], float]


@dataclass(frozen=True)
class Plan:
    """What a study is to do.

    Attributes:
        name: Name of the study in its storage.
        sampler: Name of the sampler, or one of Optuna's.
        n_trials: Trials of the study, those of all workers together.
        timeout_s: Seconds after which this worker begins no further trial; None for no end.
        maximize: Whether a higher score is better.
        widen: Whether ranges are widened where the best trial lies on their edge.
        seed: Seed of the samplers.
        first: Values to try first.
    """

    name: str
    sampler: SamplerName | BaseSampler
    n_trials: int
    timeout_s: float | None = None
    maximize: bool = False
    widen: bool = True
    seed: int = 0
    first: Sequence[Mapping[str, Any]] = ()


class Worker:
    """Makes trials of a study, together with any others that work on it.

    Args:
        plan: What the study is to do.
        space: What is searched; where the study has begun, its own space goes on.
        storage: Where the study is kept.
        pruner: What ends trials early.

    Attributes:
        study: The study.

    Raises:
        ValueError: If the study exists and is to go in the other direction.
    """

    def __init__(self, plan: Plan, space: Space, storage: BaseStorage, pruner: BasePruner) -> None:
        self._plan = plan
        direction: Direction = "maximize" if plan.maximize else "minimize"
        with unwarned():
            self.study = optuna.create_study(
                study_name=plan.name,
                storage=storage,
                pruner=pruner,
                direction=direction,
                load_if_exists=True,
            )
        if self.study.direction.name.lower() != direction:
            raise ValueError(
                f"the study {plan.name!r} is to {self.study.direction.name.lower()}, but this "
                f"search is to {direction}: give it another name"
            )
        self._number = self._enrol()
        self._sampled = ""
        self._planned = plan.n_trials
        self._prepare(space)

    def _enrol(self) -> int:
        """Return a number that no other worker has: how many there were before.

        Of workers that enrol at about the same time neither may see the other first, and not every
        database keeps their order: they draw their numbers.
        """
        own, now_s = uuid4(), time.time()
        self.study.set_user_attr(f"{WORKER}{own}", now_s)
        enrolled = [at for name, at in self.study.user_attrs.items() if name.startswith(WORKER)]
        together = sum(abs(at - now_s) < AT_ONCE_S for at in enrolled) > 1
        return own.int if together else len(enrolled) - 1

    def _prepare(self, space: Space) -> None:
        begun = SPACE in self.study.user_attrs
        if not begun:
            self.study.set_user_attr(SPACE, space.to_json())
        self._choose_sampler()
        # A grid would never be exhausted by a trial that lies beside it.
        if not begun and not isinstance(self.study.sampler, GridSampler):
            for values in self._plan.first:
                self.study.enqueue_trial(dict(values), skip_if_exists=True)

    def _choose_sampler(self) -> None:
        """Take the sampler for the space as it is now."""
        written = self.study.user_attrs[SPACE]
        if written == self._sampled:
            return
        self._sampled = written
        plan = self._plan
        self.study.sampler = make_sampler(
            plan.sampler, self.space, n_trials=plan.n_trials, seed=plan.seed, worker=self._number
        )
        if isinstance(self.study.sampler, GridSampler):
            self._planned = min(plan.n_trials, len(self.study.sampler._all_grids))

    @property
    def space(self) -> Space:
        """What is searched now."""
        return Space.from_json(self.study.user_attrs[SPACE])

    @property
    def planned(self) -> int:
        """Trials that the study is to have; a grid may have fewer points than were asked for."""
        return self._planned

    @property
    def stopped(self) -> Mapping[str, Any] | None:
        """The fault for which the study was stopped; None where it was not."""
        found: Mapping[str, Any] | None = self.study.user_attrs.get(STOPPED)
        return found

    def stop(self, fault: Mapping[str, Any]) -> None:
        """Stop the study for a fault, here and with every other worker."""
        self.study.set_user_attr(STOPPED, dict(fault))

    def work(self, run: Run) -> Iterator[FrozenTrial]:
        """Make trials until the study has as many as are planned; yield each that ends here.

        When all trials are given out, it waits for those of other workers: one of them may die, and
        its trial is then made here.

        Args:
            run: Trains a trial and returns its score.
        """
        began_s = time.monotonic()
        while self.stopped is None and not self._is_late(began_s):
            with unwarned():
                fail_stale_trials(self.study)
            trials = self.study.get_trials(deepcopy=False)
            if _is_waiting(trials) or len(counted(trials)) < self._planned:
                self._choose_sampler()
                made = self._one(run)
                if SURPLUS not in made.user_attrs:
                    yield made
                    self._judge()
            elif any(one.state is TrialState.RUNNING for one in trials):
                time.sleep(PAUSE_S)
            else:
                return

    def _is_late(self, began_s: float) -> bool:
        limit = self._plan.timeout_s
        return limit is not None and time.monotonic() - began_s > limit

    def _one(self, run: Run) -> FrozenTrial:
        """Make one trial."""
        made: list[Trial] = []
        space = self.space

        def objective(trial: Trial) -> float:
            made.append(trial)
            if self._is_surplus(trial):
                trial.set_user_attr(SURPLUS, True)
                raise optuna.TrialPruned
            try:
                return run(trial, space)
            except optuna.TrialPruned:
                raise
            except Exception as error:
                trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
                raise

        with unwarned():
            self.study.optimize(objective, n_trials=1, catch=(Exception,))
        return self.study.get_trials(deepcopy=False)[made[0].number]

    def _is_surplus(self, trial: Trial) -> bool:
        """Whether other workers have begun the last planned trials while this one was asked for.

        The storage gives out numbers one by one: those with the lowest are the ones that count.
        """
        trials = self.study.get_trials(deepcopy=False)
        before = [one for one in counted(trials) if one.number < trial.number]
        return len(before) >= self._planned

    def _judge(self) -> None:
        """Stop the study where it cannot succeed; widen its space around a best on the edge."""
        trials = self.study.get_trials(deepcopy=False)
        fault = shared_fault(trials, self.space) or _shared_error(trials)
        if fault is not None:
            self.stop(fault)
            return
        done = [one for one in trials if one.state.is_finished()]
        if self._plan.widen and self._may_widen(len(done)):
            self._widen(trials, len(done))

    def _may_widen(self, done: int) -> bool:
        """Whether enough trials were made since the space was last changed, and some are left."""
        if isinstance(self.study.sampler, GridSampler) or done >= self._planned:
            return False
        last = max((one[0] for one in self.study.user_attrs.get(WIDENED, [])), default=0)
        return done - last >= max(4, self._planned // 3)

    def _widen(self, trials: Sequence[FrozenTrial], done: int) -> None:
        best = best_of(trials, maximize=self._plan.maximize)
        if best is None:
            return
        space, said = widened(self.space, best.params)
        if said:
            before = self.study.user_attrs.get(WIDENED, [])
            self.study.set_user_attr(SPACE, space.to_json())
            self.study.set_user_attr(WIDENED, [*before, *([done, text] for text in said)])


def best_of(trials: Sequence[FrozenTrial], *, maximize: bool) -> FrozenTrial | None:
    """Return the best of the trials that were trained to their end; None where there is none."""
    ended = [one for one in trials if one.state is TrialState.COMPLETE and one.value is not None]
    if not ended:
        return None
    sign = -1.0 if maximize else 1.0
    return min(ended, key=lambda one: sign * (one.value or 0.0))


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that count: all but those that their worker did not live to end.

    Nor do those that two workers asked for at once, when only one was left to make.
    """
    return [
        one
        for one in trials
        if (one.state is not TrialState.FAIL or ERROR in one.user_attrs)
        and SURPLUS not in one.user_attrs
    ]


def _is_waiting(trials: Sequence[FrozenTrial]) -> bool:
    return any(one.state is TrialState.WAITING for one in trials)


def _shared_error(trials: Sequence[FrozenTrial]) -> Mapping[str, Any] | None:
    """Return the error that the trials raised, where several did and none was well."""
    raised = [one.user_attrs[ERROR] for one in trials if ERROR in one.user_attrs]
    well = any(one.state is TrialState.COMPLETE for one in trials)
    if len(raised) < ENOUGH_ERRORS or well:
        return None
    return {"code": "", "name": "error", "message": raised[-1], "fix": ""}


@contextmanager
def unwarned() -> Iterator[None]:
    """Keep Optuna from telling of each trial, and of what it calls experiments, in its log."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
