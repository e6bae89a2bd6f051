"""What watches a trial: the diagnosis, and the report of its score to Optuna."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial

from lightning_plateau.callback import PlateauCallback, harmless
from lightning_plateau.core.chance import chance_loss
from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.diagnosis import select_rules
from lightning_plateau.framework import Callback, LightningModule, Trainer
from lightning_plateau.recording.validation import loss_name
from lightning_plateau.tuning.fault import (
    ENDED,
    ENOUGH,
    FAULT,
    OF_THE_SETTINGS,
    cause,
    described,
    fatal,
)
from lightning_plateau.tuning.outlook import EARLIEST, Standing, hopeless
from lightning_plateau.tuning.pruner import PlateauPruner, rivals, sign_of

DRAINS, LOOKS, FEWEST_STEPS, MOST_STEPS = 16, 8, 10, 50
"""Parts of a trial after each of which it is drained, or diagnosed; steps of one: fewest, most."""
LATER = 1.4
"""How much later a trial is diagnosed each time, after the first."""
REST = 1 / 4
"""Share of a trial after which it is watched no longer, where nothing is wrong with it."""
SCORE, GUESS = "score", "guess"
FINDINGS, STEPS = "findings", "steps"
Opener = Callable[[], Trial]


class TrialWatch(PlateauCallback):
    """Watches a trial as ``PlateauCallback(policy="observe")`` does, and writes no files.

    A trial on one process is watched leanly: few steps are looked at closely, and it is diagnosed
    when ``look`` is called, or when its loss or gradients leap or cease to be finite.

    Args:
        every_n_steps: Optimizer steps between diagnoses; by default they are made when asked for.
        thorough: Whether every rule is asked, or only those on faults that settings bring about.
    """

    def __init__(self, every_n_steps: int | None = None, *, thorough: bool = True) -> None:
        super().__init__(
            policy="observe",
            every_n_steps=MOST_STEPS if every_n_steps is None else every_n_steps,
            select=None if thorough else list(OF_THE_SETTINGS),
            experiments="never",
            quiet=True,
            log=False,
        )
        self._adapts = every_n_steps is None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at a short trial more often than at a long one: its end is near."""
        planned, alone = planned_steps(trainer), trainer.world_size == 1
        settings = self._settings
        if self._adapts and planned is not None:
            parts = planned // (DRAINS if alone else LOOKS)
            every_n_steps = min(MOST_STEPS, max(FEWEST_STEPS, parts))
            settings = replace(settings, every_n_steps=every_n_steps)
        if not alone:  # every rank asks the same
            settings = replace(settings, rules=select_rules())
        self._settings = replace(settings, lean=alone and self._adapts)
        super().on_train_start(trainer, pl_module)

    @property
    def is_lean(self) -> bool:
        """Whether the trial is diagnosed only when asked for."""
        return self._settings.lean

    @property
    def looks(self) -> int:
        """How often the trial was diagnosed."""
        return 0 if self._watch is None else self._watch.looks

    @harmless
    def look(self) -> None:
        """Diagnose the trial now."""
        if self._watch is not None:
            self._watch.look(at_once=True)

    def rest(self) -> None:
        """Watch no longer: the trial is sound, and what is sound needs no close look."""
        self._release()
        self.disabled = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Diagnose the whole trial, unless it is watched leanly."""
        if not self.is_lean:
            super().on_train_end(trainer, pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Look for the cause, unless it is that the trial was ended."""
        if not isinstance(exception, optuna.TrialPruned):
            super().on_exception(trainer, pl_module, exception)

    def _folder(self, trainer: Trainer) -> None:
        """Write nowhere: a search of a thousand trials would write a thousand reports."""


class TrialReport(Callback):
    """Reports the score of a trial after every validation, and ends the trial where it is to end.

    Rank zero decides for all. With one process the trial ends by ``optuna.TrialPruned``; with
    several, every rank stops, and whoever started them raises it.

    Args:
        trial: The trial; None on ranks that follow rank zero.
        monitor: Name of the logged metric; by default the loss of the validation.
        watch: What diagnoses the training; None for no diagnosis.
        reopen: Returns the trial in another process than the one that it was made in.
    """

    def __init__(
        self,
        trial: Trial | None,
        monitor: str | None = None,
        watch: TrialWatch | None = None,
        reopen: Opener | None = None,
    ) -> None:
        self._trial, self._pid = trial, os.getpid()
        self._monitor = monitor
        self._watch = watch
        self._reopen = reopen
        self._scores: list[float] = []
        self._looks = 0
        self._next_look = EARLIEST
        self._fault = ""
        self._suspected: frozenset[str] = frozenset()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """End the trial where the latest diagnosis says that it is sick."""
        if self._watch is None:
            return
        if self._watch.is_lean and not self._scores and self._is_time(trainer):
            self._watch.look()  # validations are rare here
        if self._watch.looks == self._looks:
            return
        standing = self._standing(trainer, self._watch) if self._watch.is_lean else None
        if self._take_over(trainer, standing):
            self._end_if_told(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the score; diagnose a trial that does not look well."""
        if trainer.sanity_checking:
            return
        score = score_of(trainer, self._monitor)
        self._scores.append(score)
        if trainer.is_global_zero:
            trial = self._opened()
            trial.report(score, len(self._scores))
            trial.set_user_attr(SCORE, score if math.isfinite(score) else None)
        if self._watch is not None and self._watch.is_lean:
            self._judge(trainer, self._watch)
        self._end_if_told(trainer)

    # -- what is wrong with the trial -----------------------------------------------------------

    def _take_over(self, trainer: Trainer, standing: Standing | None = None) -> bool:
        """Note with the trial what the latest diagnosis found; return whether that may end it."""
        assert self._watch is not None
        findings, self._looks = self._watch.findings, self._watch.looks
        behind = self._watch.is_lean and self._is_behind()
        found = fatal(findings, self._suspected, others_do_better=behind)
        if standing is not None:
            found = self._weighed(found, findings, standing)
        self._suspected = frozenset(one.code for one in findings)
        code = "" if found is None else found.code
        if trainer.is_global_zero and code != self._fault:
            self._opened().set_user_attr(FAULT, None if found is None else described(found))
        changed = code != self._fault
        self._fault = code
        return bool(code) or changed

    def _weighed(
        self, found: Finding | None, findings: Sequence[Finding], standing: Standing
    ) -> Finding | None:
        """Return the fault that ends the trial, by its scores as well: what learns may go on."""
        outlook = hopeless(standing)
        if found is None and outlook is not None:
            return cause(findings) or outlook
        if found is None or found.certain or outlook is not None or standing.guess is None:
            return found
        learns = standing.learns and not self._is_behind(ENOUGH)
        return None if learns or standing.share < EARLIEST else found

    def _judge(self, trainer: Trainer, watch: TrialWatch) -> None:
        """Diagnose a trial of which little is to be expected, or that is no better than others."""
        standing = self._standing(trainer, watch)
        outlook = None if standing is None else hopeless(standing)
        if outlook is not None or (self._is_time(trainer) and not self._is_ahead()):
            watch.look()
            self._take_over(trainer, standing)
        elif self._is_sound(trainer, watch):
            watch.rest()

    def _is_sound(self, trainer: Trainer, watch: TrialWatch) -> bool:
        """Whether the trial has come so far, without a fault, that its score alone tells enough."""
        planned = planned_steps(trainer)
        if planned is None or self._fault or watch.disabled:
            return False
        errors = [one for one in watch.findings if one.severity is Severity.ERROR]
        known = chance_loss(watch.history) is not None
        return not errors and trainer.global_step >= (REST if known else 2 * REST) * planned

    def _standing(self, trainer: Trainer, watch: TrialWatch) -> Standing | None:
        """Return where the trial stands; None where its score is not the loss of a planned end."""
        trial, planned = self._opened(), planned_steps(trainer)
        if not self._scores or (self._monitor is not None and "loss" not in self._monitor):
            return None
        if planned is None or trial.study.direction is StudyDirection.MAXIMIZE:
            return None
        share, step = trainer.global_step / planned, trainer.global_step
        best = min(rivals(trial.study, trial, len(self._scores)), default=None)
        return Standing(self._scores, share, step, self._guess(trial, watch), best)

    def _guess(self, trial: Trial, watch: TrialWatch) -> float | None:
        """Return the loss of guessing; over all trials, since a few batches tell it roughly."""
        own = chance_loss(watch.history)
        trial.set_user_attr(GUESS, own)
        known = [one.user_attrs.get(GUESS) for one in trial.study.get_trials(deepcopy=False)]
        return median([one for one in known if one is not None]) if own is not None else None

    def _is_time(self, trainer: Trainer) -> bool:
        """Whether the trial has grown enough since it was last looked at."""
        planned = planned_steps(trainer)
        step = trainer.global_step
        if step < FEWEST_STEPS or (planned is not None and step < self._next_look * planned):
            return False
        share = step / planned if planned is not None else self._next_look
        self._next_look = LATER * max(share, self._next_look)
        return planned is not None or step % MOST_STEPS == 0

    def _others(self) -> tuple[float, list[float]]:
        study = self._opened().study
        others = rivals(study, self._opened(), len(self._scores))
        return sign_of(study) * self._scores[-1] if self._scores else math.nan, others

    def _is_ahead(self) -> bool:
        """Whether the trial is better than most others were at the same validation."""
        own, others = self._others()
        return len(others) >= ENOUGH and own < median(others)

    def _is_behind(self, fewest: int = 1) -> bool:
        """Whether most others, so many at least, were better at the same validation."""
        own, others = self._others()
        return len(others) >= fewest and own > median(others)

    # -- the end --------------------------------------------------------------------------------

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the codes of what was found, and how long it took."""
        if trainer.is_global_zero:
            self._opened().set_user_attr(STEPS, trainer.global_step)
        if self._watch is not None and trainer.is_global_zero:
            codes = [one.code for one in self._watch.findings if not one.explained_by]
            self._opened().set_user_attr(FINDINGS, codes)

    def _end_if_told(self, trainer: Trainer) -> None:
        reason = self._reason(trainer) if trainer.is_global_zero else ""
        if trainer.world_size > 1:
            reason = trainer.strategy.broadcast(reason)
        if not reason:
            return
        if trainer.world_size > 1:
            trainer.should_stop = True
            return
        raise optuna.TrialPruned(reason)

    def _reason(self, trainer: Trainer) -> str:
        """Return why the trial is to end, empty where it is not, and tell the sampler."""
        trial = self._opened()
        if trial.user_attrs.get(ENDED) or not trial.should_prune():
            return str(trial.user_attrs.get(ENDED) or "")
        fault = trial.user_attrs.get(FAULT)
        pruner = trial.study.pruner
        sick = isinstance(pruner, PlateauPruner) and pruner.condemns(trial.study, latest(trial))
        reason = fault["code"] if sick and fault else "pruner"
        trial.set_user_attr(ENDED, reason)
        trial.set_user_attr(STEPS, trainer.global_step)
        if sick:
            # The sampler is told that such values are not to be had, not only that they are bad.
            trial.set_constraint(FAULT, 1.0)
        return reason

    def _opened(self) -> Trial:
        """Return the trial; in a forked process with connections of its own."""
        if os.getpid() != self._pid and self._reopen is not None:
            self._trial, self._pid = self._reopen(), os.getpid()
        if self._trial is None:
            raise RuntimeError(
                "rank zero has no trial: start every rank with the same call of tune"
            )
        return self._trial


def score_of(trainer: Trainer, monitor: str | None) -> float:
    """Return the score that the training has logged last.

    Raises:
        ValueError: If nothing of that name was logged; the message says what was.
    """
    logged = trainer.callback_metrics
    name = loss_name(logged) if monitor is None else monitor
    if name is None or name not in logged:
        wanted = "a loss of the validation, such as val_loss," if monitor is None else repr(monitor)
        raise ValueError(
            f"expected {wanted} among the logged metrics, but found "
            f"{', '.join(logged) or 'none'}; log it in validation_step, or name another monitor"
        )
    return float(logged[name])


def planned_steps(trainer: Trainer) -> int | None:
    """Return the optimizer steps that are planned; None where there is no end."""
    planned = trainer.estimated_stepping_batches
    return int(planned) if math.isfinite(planned) and planned > 0 else None


def latest(trial: Trial) -> FrozenTrial:
    """Return the trial as its storage knows it, which other processes may have written to."""
    return trial.storage.get_trial(trial._trial_id)


def trial_callbacks(
    trial: Trial, monitor: str | None = None, *, every_n_steps: int | None = None
) -> list[Callback]:
    """Return the callbacks that end a trial of your own objective when it is sick.

    Give the study a ``PlateauPruner``; pass the callbacks to the Trainer of the trial.

    Args:
        trial: The trial.
        monitor: Name of the logged metric to report; by default the loss of the validation.
        every_n_steps: Optimizer steps between diagnoses; by default trials that do not look well
            are diagnosed, and the first ones.
    """
    watch = TrialWatch(every_n_steps, thorough=trial.number < ENOUGH)
    return [watch, TrialReport(trial, monitor, watch)]
