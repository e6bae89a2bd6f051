"""What watches a trial: the diagnosis, and the report of its score to Optuna."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial

from lightning_plateau.callback import PlateauCallback
from lightning_plateau.framework import Callback, LightningModule, Trainer
from lightning_plateau.recording.validation import loss_name
from lightning_plateau.tuning.fault import ENDED, FAULT, described, fatal
from lightning_plateau.tuning.pruner import PlateauPruner

LOOKS, FEWEST_STEPS, MOST_STEPS = 8, 10, 50
"""Diagnoses of a short trial, and the steps between two of them: fewest and most."""
SCORE = "score"
FINDINGS = "findings"
Opener = Callable[[], Trial]


class TrialWatch(PlateauCallback):
    """Watches a trial as ``PlateauCallback(policy="observe")`` does, and writes no files.

    Args:
        every_n_steps: Optimizer steps between diagnoses; None for an eighth of the trial, and 50
            at most.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        super().__init__(
            policy="observe",
            every_n_steps=MOST_STEPS if every_n_steps is None else every_n_steps,
            experiments="never",
            quiet=True,
            log=False,
        )
        self._adapts = every_n_steps is None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at a short trial more often than at a long one: its end is near."""
        planned = trainer.estimated_stepping_batches
        if self._adapts and math.isfinite(planned) and planned > 0:
            every_n_steps = min(MOST_STEPS, max(FEWEST_STEPS, int(planned) // LOOKS))
            self._settings = replace(self._settings, every_n_steps=every_n_steps)
        super().on_train_start(trainer, pl_module)

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
        watch: PlateauCallback | None = None,
        reopen: Opener | None = None,
    ) -> None:
        self._trial, self._pid = trial, os.getpid()
        self._monitor = monitor
        self._watch = watch
        self._reopen = reopen
        self._validations = 0
        self._seen: object = None
        self._fault = ""
        self._suspected: frozenset[str] = frozenset()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """End the trial where the latest diagnosis says that it is sick."""
        if self._watch is None or self._watch.history is self._seen:
            return
        self._seen = self._watch.history
        found = fatal(self._watch.findings, self._suspected)
        self._suspected = frozenset(one.code for one in self._watch.findings)
        code = "" if found is None else found.code
        if code == self._fault == "":
            return
        if trainer.is_global_zero and code != self._fault:
            self._opened().set_user_attr(FAULT, None if found is None else described(found))
        self._fault = code
        if code:
            self._end_if_told(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the score."""
        if trainer.sanity_checking:
            return
        self._validations += 1
        if trainer.is_global_zero:
            trial, score = self._opened(), score_of(trainer, self._monitor)
            trial.report(score, self._validations)
            trial.set_user_attr(SCORE, score if math.isfinite(score) else None)
        self._end_if_told(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the codes of what was found."""
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
        trial.set_user_attr("steps", trainer.global_step)
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
        every_n_steps: Optimizer steps between diagnoses; None for an eighth of the trial, and 50
            at most.
    """
    watch = TrialWatch(every_n_steps)
    return [watch, TrialReport(trial, monitor, watch)]
