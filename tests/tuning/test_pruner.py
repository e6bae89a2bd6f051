"""Which trials are ended: a table of plain numbers."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import TrialState, create_trial

from lightning_plateau.tuning.fault import FAULT
from lightning_plateau.tuning.pruner import PlateauPruner, make_pruner

SICK = {FAULT: {"code": "LP406", "name": "learning-rate-too-high"}}


def study_of(*scores, direction="minimize", pruner=None, sick=()):
    """Return a study of ended trials that all had these scores after their first validation."""
    study = optuna.create_study(study_name="same", direction=direction, pruner=pruner)
    for number, score in enumerate(scores):
        state = TrialState.PRUNED if number in sick else TrialState.COMPLETE
        study.add_trial(
            create_trial(
                state=state,
                value=score,
                intermediate_values={1: score},
                user_attrs=SICK if number in sick else {},
            )
        )
    return study


def trial_with(score=None, step=1, fault=True):
    return create_trial(
        state=TrialState.RUNNING,
        intermediate_values={} if score is None else {step: score},
        user_attrs=SICK if fault else {},
    )


TWENTY = [float(score) for score in range(20)]


@pytest.mark.parametrize(
    ("score", "ended"),
    [
        (-1.0, False),  # the best of all
        (1.5, False),  # third of 21: ten in a hundred, rounded up
        (2.5, True),
        (19.5, True),
        (None, True),  # nothing speaks for it yet
        (math.nan, True),
    ],
)
def test_a_sick_trial_ends_unless_it_is_among_the_best(score, ended) -> None:
    assert PlateauPruner().prune(study_of(*TWENTY), trial_with(score)) is ended


def test_higher_may_be_better() -> None:
    study = study_of(*TWENTY, direction="maximize")
    assert PlateauPruner().prune(study, trial_with(2.5))
    assert not PlateauPruner().prune(study, trial_with(18.5))


def test_only_trials_at_the_same_step_and_sound_ones_are_compared_with() -> None:
    assert PlateauPruner().prune(study_of(1.0, 2.0), trial_with(0.5, step=2))
    assert PlateauPruner().prune(study_of(1.0, 2.0, sick=(0, 1)), trial_with(0.5))


def test_a_sound_trial_goes_on() -> None:
    assert not PlateauPruner().prune(study_of(*TWENTY), trial_with(50.0, fault=False))


@pytest.mark.parametrize("other", [MedianPruner(n_startup_trials=5), HyperbandPruner(1, 9)])
def test_another_pruner_is_asked_as_if_it_were_alone(other) -> None:
    beside = PlateauPruner(other)
    for score in (-1.0, 50.0):
        alone = study_of(*TWENTY, pruner=other)
        together = study_of(*TWENTY, pruner=beside)
        answers = []
        for study, asked in ((alone, other), (together, beside)):
            study.add_trial(trial_with(score, fault=False))
            answers.append(asked.prune(study, study.trials[-1]))
        assert answers[0] == answers[1]
        assert together.pruner is beside


def test_by_name() -> None:
    assert isinstance(make_pruner("none"), NopPruner)
    own = MedianPruner()
    assert make_pruner(own) is own
    with pytest.raises(ValueError, match="pruner must be plateau"):
        make_pruner("best")
