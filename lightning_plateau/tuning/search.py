"""``tune``: search for good settings, and end trials that are sick."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import Trial

from lightning_plateau.report.saved_run import SavedRun, read_run
from lightning_plateau.tuning import ranks
from lightning_plateau.tuning.blueprint import Blueprint
from lightning_plateau.tuning.configuration import Configuration
from lightning_plateau.tuning.fault import described
from lightning_plateau.tuning.narrowing import Narrowed, narrowed
from lightning_plateau.tuning.outcome import BEST_FILE, Tuning
from lightning_plateau.tuning.plots import save_plots
from lightning_plateau.tuning.progress import Progress
from lightning_plateau.tuning.pruner import PlateauPruner, PrunerName, make_pruner
from lightning_plateau.tuning.samplers import SamplerName
from lightning_plateau.tuning.space import Space, Values
from lightning_plateau.tuning.spaces import find_space, standard
from lightning_plateau.tuning.storage import BEAT_S, open_storage
from lightning_plateau.tuning.training import Trials
from lightning_plateau.tuning.worker import SPACE, STOPPED, WIDENED, Plan, Worker, best_of

Objective = Callable[[Trial, Values], float]
EPOCHS = 10
"""Epochs of a trial where nobody says how many."""


def tune(  # noqa: PLR0913 - settings by name, each with a default
    module: Any = None,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: Any = None,
    *,
    objective: Objective | None = None,
    space: str | Space | Mapping[str, Any] | None = None,
    sampler: SamplerName | BaseSampler = "bayesian",
    pruner: PrunerName | BasePruner = "plateau",
    n_trials: int = 20,
    timeout_s: float | None = None,
    monitor: str | None = None,
    mode: Literal["min", "max"] = "min",
    trainer: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    from_run: str | Path | None = None,
    widen: bool = True,
    storage: str | Path | BaseStorage | None = None,
    name: str = "tune",
    folder: str | Path = "plateau-tune",
    plots: bool = False,
    seed: int = 0,
    every_n_steps: int | None = None,
    beat_s: int = BEAT_S,
    progress_bar: bool = True,
) -> Tuning:
    """Search for good settings of a training, and end trials that are sick.

    Call it again, here or on another machine, with the same ``storage`` and ``name``, and it
    goes on with the same study; several at once share the work.

    Args:
        module: Class or function that makes the LightningModule from the settings, or a
            LightningModule to copy, of which only optimizer, schedule and Trainer can be searched.
        train_dataloaders: Training batches, as ``Trainer.fit`` takes them.
        val_dataloaders: Validation batches.
        datamodule: Class or function that makes a LightningDataModule, or one, in place of both.
        objective: In place of all these: a function of the trial and the chosen values by name that
            trains and returns the score. ``trial_callbacks`` gives it the diagnosis.
        space: Name of a ready space (``"learning_rate"``, ``"optimizer"``, ``"regularization"``,
            ``"standard"``), a ``Space``, or settings by name; by default what ``from_run`` calls
            for, or ``"standard"``.
        sampler: ``"grid"``, ``"random"``, ``"bayesian"``, ``"quasi-random"``, or one of Optuna.
        pruner: ``"plateau"`` ends trials that are sick; ``"plateau+median"`` and
            ``"plateau+hyperband"`` also what is behind; ``"median"``, ``"hyperband"``, ``"none"``,
            or a pruner of Optuna.
        n_trials: Trials of the study, those of all workers and of earlier calls together.
        timeout_s: Seconds after which no further trial begins.
        monitor: Name of the logged metric that is the score; by default the validation loss.
        mode: Whether a lower score is better, or a higher one.
        trainer: Settings of the Trainer for every trial; ten epochs where it does not say.
        fixed: Settings by path that every trial has, ``{"model.width": 64}``.
        from_run: Folder of a run that PlateauCallback watched; what was wrong with it narrows the
            space.
        widen: Whether a range of a ready space is widened where the best trial lies on its edge.
        storage: URL of a database, path of a journal file that machines may share, or a storage of
            Optuna; by default an SQLite database in ``folder``.
        name: Name of the study in its storage.
        folder: Folder for ``best.yaml``, plots and the database.
        plots: Whether to draw history, importances and parallel coordinates.
        seed: Seed of the sampler and of every trial.
        every_n_steps: Optimizer steps between diagnoses; by default a trial is diagnosed when
            little is to be expected of it by its score.
        beat_s: Seconds between two signs of life of a worker; one that misses three is taken for
            dead, and its trial is made again.
        progress_bar: Whether to show how far the study is.

    Raises:
        ValueError: If an argument is out of its range, or a setting has no place in the training;
            the message says what was expected.
        TypeError: If there is neither a module nor an objective, or both.
        FileNotFoundError: If ``from_run`` has no history.

    Example:
        >>> tune(n_trials=0)
        Traceback (most recent call last):
            ...
        ValueError: n_trials must be at least 1, but is 0
    """
    _check(module, objective, n_trials, mode, timeout_s)
    run = None if from_run is None else read_run(from_run)
    found = _where_to_look(space, run)
    blueprint = None
    if objective is None:
        blueprint = Blueprint(
            module,
            datamodule,
            (train_dataloaders, val_dataloaders),
            _with_epochs(trainer or {}, run),
            fixed or {},
        )
        found = replace(found, space=blueprint.fitted(found.space))
    first = {name: one for name, one in found.first.items() if name in found.space.dimensions}
    search = _Search(
        plan=Plan(
            name=name,
            sampler=sampler,
            n_trials=n_trials,
            timeout_s=timeout_s,
            maximize=mode == "max",
            widen=widen,
            seed=seed,
            first=[first] if first else [],
        ),
        found=found,
        pruner=make_pruner(pruner),
        storage=storage,
        folder=Path(folder),
        beat_s=beat_s,
        monitor=monitor,
        blueprint=blueprint,
        plots=plots,
    )
    if objective is not None:
        return search.lead(_chosen(objective), shown=progress_bar)
    assert blueprint is not None
    watched = isinstance(search.pruner, PlateauPruner)
    trials = Trials(blueprint, monitor, watched, every_n_steps, seed, search.reopened)
    if ranks.rank() > 0:
        trials.follow()
        return search.followed()
    try:
        return search.lead(trials.run, shown=progress_bar)
    finally:
        if ranks.processes() > 1:
            ranks.agreed(None)
        ranks.forget()


def _check(module: Any, objective: Any, n_trials: int, mode: str, timeout_s: float | None) -> None:
    if n_trials < 1:
        raise ValueError(f"n_trials must be at least 1, but is {n_trials}")
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"timeout_s must be positive, but is {timeout_s}")
    if mode not in ("min", "max"):
        raise ValueError(f"mode must be 'min' or 'max', but is {mode!r}")
    if (module is None) == (objective is None):
        given = "neither" if module is None else "both"
        raise TypeError(f"expected either a module or an objective, but received {given}")


def _where_to_look(space: Any, run: SavedRun | None) -> Narrowed:
    """Return the space that was asked for, narrowed by the diagnosis of ``run``."""
    given = None if space is None else find_space(space)
    if run is None:
        return Narrowed(standard if given is None else given)
    return narrowed(run.findings, run.history, given)


def _with_epochs(trainer: Mapping[str, Any], run: SavedRun | None) -> dict[str, Any]:
    """Return settings that say how long a trial is trained: as long as the run, or ten epochs."""
    if any(trainer.get(name) is not None for name in ("max_epochs", "max_steps", "max_time")):
        return dict(trainer)
    planned = None if run is None else run.history.profile.planned_epochs
    return {"max_epochs": planned or EPOCHS, **trainer}


def _chosen(objective: Objective) -> Callable[[Trial, Space], float]:
    return lambda trial, space: objective(trial, space.suggest(trial))


@dataclass(frozen=True)
class _Search:
    """One call of ``tune``."""

    plan: Plan
    found: Narrowed
    pruner: BasePruner
    storage: str | Path | BaseStorage | None
    folder: Path
    beat_s: int
    monitor: str | None
    blueprint: Blueprint | None
    plots: bool

    def opened(self) -> BaseStorage:
        """Return the storage."""
        return open_storage(self.storage, self.folder, beat_s=self.beat_s)

    def reopened(self, trial_id: int) -> Trial:
        """Return a trial in another process, with connections of its own."""
        study = optuna.load_study(
            study_name=self.plan.name,
            storage=self.opened(),
            sampler=RandomSampler(),
            pruner=self.pruner,
        )
        return Trial(study, trial_id)

    def lead(self, run: Callable[[Trial, Space], float], *, shown: bool) -> Tuning:
        """Make trials until the study has as many as are planned, and write what was found."""
        began_s = time.monotonic()
        obstacle = self.found.obstacle
        worker = Worker(self.plan, self.found.space, self.opened(), self.pruner)
        if obstacle is not None and worker.stopped is None:
            worker.stop(described(obstacle))
        with Progress(worker.planned, maximize=self.plan.maximize, shown=shown) as progress:
            progress.update(worker.study)
            for _ in worker.work(run):
                progress.update(worker.study)
        result = replace(self._result(worker.study), elapsed_s=time.monotonic() - began_s)
        return self._saved(result)

    def followed(self) -> Tuning:
        """Return what rank zero has found."""
        return self._result(optuna.load_study(study_name=self.plan.name, storage=self.opened()))

    def _result(self, study: optuna.Study) -> Tuning:
        best = best_of(study.get_trials(deepcopy=False), maximize=self.plan.maximize)
        configuration: Configuration = {}
        if best is not None and self.blueprint is not None:
            configuration = self.blueprint.configuration(dict(best.params))
            configuration = {"seed_everything": self.plan.seed, **configuration}
        searched_further = [text for _, text in study.user_attrs.get(WIDENED, [])]
        return Tuning(
            study=study,
            best=best,
            configuration=configuration,
            space=Space.from_json(study.user_attrs[SPACE]),
            monitor=self.monitor or "validation loss",
            notes=(*self.found.reasons, *searched_further),
            stopped=study.user_attrs.get(STOPPED),
        )

    def _saved(self, result: Tuning) -> Tuning:
        """Write the best configuration and the plots."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files: list[Path] = []
        notes: tuple[str, ...] = ()
        if result.configuration:
            path = self.folder / BEST_FILE
            path.write_text(result.yaml, encoding="utf-8")
            files.append(path)
        if self.plots:
            drawn, notes = save_plots(result.study, self.folder)
            files += drawn
        return replace(result, files=tuple(files), notes=(*result.notes, *notes))
