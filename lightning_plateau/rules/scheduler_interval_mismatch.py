"""LP409: the schedule counts epochs and is stepped on batches, or the reverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lightning_plateau.core.finding import Evidence, Finding
from lightning_plateau.core.history import History
from lightning_plateau.core.learning_rates import rises_throughout, share_of_peak, spent_at
from lightning_plateau.core.profile import Profile, SchedulerFact
from lightning_plateau.core.rule import Method, Remark, Rule
from lightning_plateau.core.signal import LEARNING_RATES

_RISING = {"OneCycleLR": "total_steps", "LinearLR": "total_iters"}
"""Schedulers that begin low, and the setting that holds their length."""


@dataclass(frozen=True)
class SchedulerIntervalMismatch(Rule):
    """The schedule counts epochs and is stepped on batches, or the reverse.

    What it detects:
        A scheduler that is stepped on every batch and has brought the learning rate below a
        hundredth of its peak in the first third of the planned steps, while its own length is no
        more than the planned epochs; or one that begins low (``OneCycleLR``, ``LinearLR``), is
        stepped once an epoch and is longer than five times the planned epochs: it never leaves its
        beginning. One that is stepped on every batch and is longer than five times the planned
        steps (the warm-up of a far longer run) does not leave it either. Of a ``LambdaLR`` the same
        is said where most of the run is over, and it still rises, below a tenth of the rate that
        the optimizer was given.

    Why it matters:
        The learning rate is gone within an epoch, or never arrives.

    Example:
        >>> from lightning_plateau.testing import history
        >>> rates = [0.1] * 10 + [0.01] * 10 + [0.001] * 10 + [1e-4] * 30
        >>> scheduler = SchedulerFact("StepLR", "step", settings={"step_size": 10, "gamma": 0.1})
        >>> profile = Profile(
        ...     schedulers=(scheduler,),
        ...     planned_steps=3000,
        ...     planned_epochs=30,
        ...     batches_per_epoch=100,
        ... )
        >>> run = history({LEARNING_RATES: {"0": rates}}, loss=[2.3] * 60, profile=profile)
        >>> SchedulerIntervalMismatch().check(run).message
        'StepLR is stepped on every batch: since step 20 of 3000 the learning rate is below 1 %'

    Remedies:
        warm-restart, where the learning rate is gone and the policy may overrule the schedule. What
        mends the fault is to return ``{"scheduler": scheduler, "interval": "epoch"}`` (or
        ``"step"``) from ``configure_optimizers``.

    Known limitations:
        The lengths of ``LambdaLR`` and of chained schedulers are not known: they are judged by what
        became of the learning rate. In manual optimization nothing is said.

    References:
        Godbole et al., 2023, Deep Learning Tuning Playbook. The PyTorch Lightning documentation:
        Optimization, learning rate scheduling.
    """

    code: ClassVar[str] = "LP409"
    name: ClassVar[str] = "scheduler-interval-mismatch"
    remark: ClassVar[Remark] = "while-falling"
    requires: ClassVar = (LEARNING_RATES,)
    explains: ClassVar = (
        "LP306",
        "LP401",
        "LP405",
        "LP407",
        "LP408",
        "LP414",
        "LP802",
        "LP807",
        "LP808",
    )
    method: ClassVar[Method] = "configure_optimizers"
    why: ClassVar[str] = "the learning rate is gone within an epoch, or never arrives"

    spent: float = 0.01
    early: float = 1 / 3
    most_lengths: float = 5.0
    most_of_plan: float = 1.5
    arrived: float = 0.1
    late: float = 0.75

    def check(self, history: History) -> Finding | None:
        """Return the fault where a schedule runs at the wrong pace."""
        profile = history.profile
        if profile.manual_optimization or len(profile.schedulers) != 1:
            return None
        [scheduler] = profile.schedulers
        fast = self._too_fast(history, scheduler) if scheduler.interval == "step" else None
        return fast or self._too_slow(history, scheduler) or self._never_arrives(history, scheduler)

    def _too_fast(self, history: History, scheduler: SchedulerFact) -> Finding | None:
        planned, since = history.profile.planned_steps, spent_at(history, self.spent)
        if planned is None or since is None or since > self.early * planned:
            return None
        known = _counts_epochs(scheduler, history.profile)
        if known is False:
            return None
        return self.finding(
            history,
            0.95 if known else 0.7,
            f"{scheduler.kind} is stepped on every batch: since step {since} of {planned} the "
            f"learning rate is below {100 * self.spent:.0f} %",
            evidence=(
                Evidence("learning rate over its peak", share_of_peak(history), self.spent),
                Evidence("step at which it was spent", float(since), self.early * planned),
            ),
            fix='"interval": "epoch" in the scheduler\'s dict, or its length in steps: '
            "self.trainer.estimated_stepping_batches",
            where=scheduler.kind,
            step=since,
            remedies=("warm-restart",),
        )

    def _too_slow(self, history: History, scheduler: SchedulerFact) -> Finding | None:
        times, rates = _planned_times(scheduler, history.profile), history[LEARNING_RATES]
        length = scheduler.settings.get(_RISING.get(scheduler.kind, ""))
        if times is None or not isinstance(length, int | float) or not len(rates):
            return None
        if length < self.most_lengths * max(1, times) or _starts_high(scheduler):
            return None
        planned = history.profile.planned_steps or 0
        meant = planned <= self.most_of_plan * length and length <= self.most_of_plan * planned
        return self.finding(
            history,
            1.0 if meant else 0.9,
            f"{scheduler.kind} has {length:.0f} steps but is stepped {_how_often(scheduler)}, "
            f"{times} times in all: the learning rate never leaves its beginning",
            evidence=(Evidence("length of the schedule", float(length), float(times)),),
            fix=_fix_of_slow(scheduler),
            where=scheduler.kind,
            step=0,
        )

    def _never_arrives(self, history: History, scheduler: SchedulerFact) -> Finding | None:
        """Return the fault where a warm-up of unknown length is at its beginning at the end."""
        planned, rates = history.profile.planned_steps, history[LEARNING_RATES].finite
        meant = scheduler.settings.get("base_lrs_0")
        if scheduler.kind != "LambdaLR" or not isinstance(meant, int | float) or not meant > 0:
            return None
        over = history.finished or (planned is not None and history.step >= self.late * planned)
        if not over or not rates.labels or not len(rates) or not rises_throughout(history):
            return None
        share = float(rates.values[:, 0].max()) / meant
        if share >= self.arrived:
            return None
        return self.finding(
            history,
            0.8,
            f"{scheduler.kind} is stepped {_how_often(scheduler)} and still rises at step "
            f"{history.step}: the learning rate has come to {100 * share:.2g} % of {meant:.3g}",
            evidence=(Evidence("learning rate over that of the optimizer", share, self.arrived),),
            fix=_fix_of_slow(scheduler),
            where=scheduler.kind,
            step=0,
        )


def _planned_times(scheduler: SchedulerFact, profile: Profile) -> int | None:
    """Return how often the scheduler will be stepped; None where the run has no planned end."""
    return profile.planned_steps if scheduler.interval == "step" else profile.planned_epochs


def _how_often(scheduler: SchedulerFact) -> str:
    return "on every batch" if scheduler.interval == "step" else "once an epoch"


def _fix_of_slow(scheduler: SchedulerFact) -> str:
    if scheduler.interval == "step":
        return (
            "a length that this run gets through: a share of "
            "self.trainer.estimated_stepping_batches, such as its twentieth for a warm-up"
        )
    return (
        '"interval": "step" in the scheduler\'s dict, if its length counts steps: '
        'return {"optimizer": o, "lr_scheduler": {"scheduler": s, "interval": "step"}}'
    )


def _counts_epochs(scheduler: SchedulerFact, profile: Profile) -> bool | None:
    """Return whether the scheduler's own length is one of epochs; None where it has none."""
    names = ("step_size", "T_max", "T_0", "total_iters", "total_steps")
    lengths = [scheduler.settings.get(name) for name in names]
    known = [float(length) for length in lengths if isinstance(length, int | float) and length > 0]
    if not known or profile.planned_epochs is None:
        return None
    return max(known) <= max(1, profile.planned_epochs)


def _starts_high(scheduler: SchedulerFact) -> bool:
    start = scheduler.settings.get("start_factor", 0.0)
    return isinstance(start, int | float) and start >= 0.5
