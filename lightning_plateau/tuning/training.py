"""One trial: from the values that were chosen to its score."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import optuna
import torch
from optuna.trial import Trial

from lightning_plateau.framework import Callback, Trainer, quietly
from lightning_plateau.training.snapshot import randomness_kept
from lightning_plateau.tuning import ranks
from lightning_plateau.tuning.blueprint import Blueprint
from lightning_plateau.tuning.callbacks import (
    Opener,
    TrialReport,
    TrialWatch,
    latest,
    score_of,
)
from lightning_plateau.tuning.fault import ENDED, ENOUGH
from lightning_plateau.tuning.space import Space, Values

NOT_FINITE = "a score that is not finite"
SILENT = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "num_sanity_val_steps": 0,
}


@dataclass(frozen=True)
class Trials:
    """How trials are trained.

    Attributes:
        blueprint: What is trained.
        monitor: Name of the score; None for the loss of the validation.
        watched: Whether the diagnosis watches each trial.
        every_n_steps: Optimizer steps between diagnoses; None for when a trial does not look well.
        seed: Seed of every trial, so that trials differ by their values alone.
        reopen: Returns the trial of a number in another process.
    """

    blueprint: Blueprint
    monitor: str | None = None
    watched: bool = True
    every_n_steps: int | None = None
    seed: int = 0
    reopen: Callable[[int], Trial] | None = None

    def run(self, trial: Trial, space: Space) -> float:
        """Choose the values, train, and return the score.

        Raises:
            TrialPruned: If the trial was ended early, or its score is not finite.
        """
        values = ranks.agreed({"values": space.suggest(trial)})["values"]
        score = self._train(values, trial)
        ended = latest(trial).user_attrs.get(ENDED)
        if ended:
            raise optuna.TrialPruned(str(ended))
        if not math.isfinite(score):
            trial.set_user_attr(ENDED, NOT_FINITE)
            raise optuna.TrialPruned(NOT_FINITE)
        return score

    def follow(self) -> None:
        """Train what rank zero chooses, until it says that there is no more."""
        while (said := ranks.agreed(None)) is not None:
            try:
                self._train(said["values"], None)
            except Exception as error:  # noqa: BLE001 - rank zero records it, and goes on
                warnings.warn(f"a trial raised {type(error).__name__}: {error}", stacklevel=2)

    def _train(self, values: Values, trial: Trial | None) -> float:
        with quietly(), randomness_kept():
            seed_all(self.seed)
            made = self.blueprint.make(self.blueprint.configuration(values))
            settings = {**SILENT, **made.trainer}
            own = copy.deepcopy(settings.pop("callbacks", None) or [])
            trainer = Trainer(**settings, callbacks=[*own, *self._callbacks(trial)])
            trainer.fit(made.module, **made.data)
        return score_of(trainer, self.monitor)

    def _callbacks(self, trial: Trial | None) -> list[Callback]:
        first = trial is None or trial.number < ENOUGH
        watch = TrialWatch(self.every_n_steps, thorough=first) if self.watched else None
        report = TrialReport(trial, self.monitor, watch, self._opener(trial))
        return [report] if watch is None else [watch, report]

    def _opener(self, trial: Trial | None) -> Opener | None:
        reopen = self.reopen
        if trial is None or reopen is None:
            return None
        number = trial._trial_id
        return lambda: reopen(number)


def seed_all(seed: int) -> None:
    """Seed every generator that a training draws from, as Lightning's ``seed_everything`` does."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what users' augmentations draw from
    torch.manual_seed(seed)
