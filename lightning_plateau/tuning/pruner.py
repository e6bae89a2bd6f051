"""Which trials are ended early: those that are sick, and those that another pruner gives up."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal, get_args

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_plateau.tuning.fault import FAULT

PrunerName = Literal[
    "plateau", "plateau+median", "plateau+hyperband", "median", "hyperband", "none"
]


class PlateauPruner(BasePruner):
    """Ends a trial in which a fault was found, alone or beside another pruner.

    A trial is sick when its attribute ``fault`` is set; the callbacks of ``trial_callbacks`` set it
    from the diagnosis. What is among the best trials in spite of its fault goes on: a search is
    there to find good values, not sound ones.

    Args:
        beside: Another pruner, asked about trials that are not ended for a fault.
        spared: Share of the best trials, 0 … 1, that are never ended for a fault.

    Raises:
        ValueError: If ``spared`` is no share.

    Example:
        >>> PlateauPruner(spared=2.0)
        Traceback (most recent call last):
            ...
        ValueError: spared must be a share in 0 … 1, but is 2.0
    """

    def __init__(self, beside: BasePruner | None = None, *, spared: float = 0.1) -> None:
        if not 0.0 <= spared <= 1.0:
            raise ValueError(f"spared must be a share in 0 … 1, but is {spared}")
        self._beside = beside
        self._spared = spared

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether ``trial`` is to end now."""
        if self.condemns(study, trial):
            return True
        if self._beside is None:
            return False
        return self._beside.prune(self._study_of_the_other(study), trial)

    def condemns(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether ``trial`` has a fault and is not among the best."""
        return bool(trial.user_attrs.get(FAULT)) and not self._is_among_the_best(study, trial)

    def _is_among_the_best(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether no more than the spared share of the sound trials were better at this step."""
        step = trial.last_step
        if step is None or math.isnan(trial.intermediate_values[step]):
            return False
        others = rivals(study, trial, step)
        value = sign_of(study) * trial.intermediate_values[step]
        if not others:
            return False
        places = max(1, math.ceil(self._spared * (len(others) + 1)))
        return sum(other < value for other in others) < places

    def _study_of_the_other(self, study: Study) -> Study:
        # Hyperband insists on being the pruner of the study that it is asked about.
        seen = copy.copy(study)
        seen.pruner = self._beside or NopPruner()
        return seen


def sign_of(study: Study) -> float:
    """Return what scores are multiplied by, so that a lower one is better."""
    return -1.0 if study.direction is StudyDirection.MAXIMIZE else 1.0


def rivals(study: Study, trial: FrozenTrial | Trial, step: int) -> list[float]:
    """Return what the other sound trials had at the same validation; lower is better."""
    return [
        sign_of(study) * one.intermediate_values[step]
        for one in study.get_trials(deepcopy=False)
        if one.number != trial.number and step in one.intermediate_values and _is_sound(one)
    ]


def _is_sound(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.COMPLETE or not trial.user_attrs.get(FAULT)


def make_pruner(name: PrunerName | BasePruner) -> BasePruner:
    """Return a pruner by our name for it.

    Raises:
        ValueError: If there is no such pruner.
    """
    if isinstance(name, BasePruner):
        return name
    made: dict[str, Callable[[], BasePruner]] = {
        "plateau": PlateauPruner,
        "plateau+median": lambda: PlateauPruner(MedianPruner()),
        "plateau+hyperband": lambda: PlateauPruner(HyperbandPruner()),
        "median": MedianPruner,
        "hyperband": HyperbandPruner,
        "none": NopPruner,
    }
    if name in made:
        return made[name]()
    raise ValueError(
        f"pruner must be {', '.join(get_args(PrunerName))} or a pruner of Optuna, but is {name!r}"
    )
