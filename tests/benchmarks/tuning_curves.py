"""Trials trained to their end, and played again before any pruner that only compares scores."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import Trial

from lightning_plateau.framework import Callback, LightningModule, Trainer, quietly
from lightning_plateau.training.snapshot import randomness_kept
from lightning_plateau.tuning.blueprint import Blueprint
from lightning_plateau.tuning.callbacks import score_of
from lightning_plateau.tuning.fault import ENDED
from lightning_plateau.tuning.space import Space, Values
from lightning_plateau.tuning.training import SILENT, seed_all

CPU_S, STEPS = "cpu_s", "steps"


@dataclass(frozen=True)
class Point:
    """A trial after a validation: seconds of the processor and steps until then, and the score."""

    cpu_s: float
    steps: int
    score: float


class _Curve(Callback):
    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self.points: list[Point] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        taken_s = time.process_time() - self._began_s
        self.points.append(Point(taken_s, trainer.global_step, score_of(trainer, "val_loss")))


def train(blueprint: Blueprint, values: Values) -> list[Point]:
    """Train a trial to its end, as the search does that has no pruner; the end comes last."""
    began_s = time.process_time()
    with quietly(), randomness_kept():
        seed_all(0)
        made = blueprint.make(blueprint.configuration(values))
        curve = _Curve(began_s)
        Trainer(**{**SILENT, **made.trainer}, callbacks=[curve]).fit(made.module, **made.data)
    last = curve.points[-1]
    return [*curve.points, Point(time.process_time() - began_s, last.steps, last.score)]


@dataclass
class Played:
    """Runs trials for a worker: each is trained once, and from then on played.

    A pruner that compares scores sees the same scores either way, so that it need not be waited for
    what has been trained already.
    """

    blueprint: Blueprint
    curves: dict[int, list[Point]] = field(default_factory=dict)

    def run(self, trial: Trial, space: Space) -> float:
        """Report scores until the pruner ends the trial; return the last.

        Raises:
            TrialPruned: If it does.
        """
        values = space.suggest(trial)
        if trial.number not in self.curves:
            self.curves[trial.number] = train(self.blueprint, values)
        *points, end = self.curves[trial.number]
        for validation, point in enumerate(points, start=1):
            trial.report(point.score, validation)
            if trial.should_prune():
                _note(trial, point, **{ENDED: "pruner"})
                raise optuna.TrialPruned
        _note(trial, end)
        if end.score != end.score:
            raise optuna.TrialPruned
        return end.score


def _note(trial: Trial, point: Point, **more: Any) -> None:
    for name, value in {CPU_S: point.cpu_s, STEPS: point.steps, **more}.items():
        trial.set_user_attr(name, value)
