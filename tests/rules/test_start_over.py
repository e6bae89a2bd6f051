"""LP910: the verdict where nothing is left to look for, and its edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.core.signal import (
    EXPERIMENT_BATCH_MIXING,
    EXPERIMENT_OVERFIT,
    EXPERIMENT_STEP_SIZE,
    EXPERIMENT_ZERO_INPUTS,
    GRADIENT_NORMS,
    PARAMETER_NORMS,
)
from lightning_plateau.diagnosis import diagnose
from lightning_plateau.rules.start_over import StartOver
from lightning_plateau.testing import history

FLAT = 2.3 + 0.01 * np.sin(np.arange(300.0))
SOUND: dict[Any, Any] = {
    EXPERIMENT_ZERO_INPUTS: {"real": [2.3], "zeroed": [2.5], "swapped": [2.4]},
    EXPERIMENT_BATCH_MIXING: {"halved": [0.0], "repeated": [0.0]},
    EXPERIMENT_OVERFIT: {"before": [2.3], "own": [0.2]},
}


def ended(more: Any = None, **settings: Any) -> History:
    return history({**SOUND, **(more or {})}, **{"loss": FLAT, "finished": True, **settings})


def codes(run: History) -> list[str]:
    return [finding.code for finding in diagnose(run)]


def test_where_nothing_is_left_the_task_is_questioned() -> None:
    assert codes(ended()) == ["LP910", "LP401"]


def test_it_waits_for_half_of_the_run_and_for_the_experiments() -> None:
    young = ended(finished=False, profile=Profile(planned_steps=1000))
    assert StartOver().check(young) is None
    late = ended(finished=False, profile=Profile(planned_steps=500))
    assert StartOver().check(late) is not None
    assert StartOver().check(history(loss=FLAT, finished=True)) is None


def test_a_run_that_goes_down_is_not_questioned() -> None:
    assert codes(ended(loss=2.3 * 0.98 ** np.arange(300.0))) == []


def test_an_experiment_that_found_a_fault_speaks_for_itself() -> None:
    same = {EXPERIMENT_ZERO_INPUTS: {"real": [2.3], "zeroed": [2.3], "swapped": [2.3]}}
    assert StartOver().check(ended(same)) is None
    unfit = {EXPERIMENT_OVERFIT: {"before": [2.3], "own": [2.3], "adam": [2.3]}}
    assert StartOver().check(ended(unfit)) is None
    row = {"0": [1.0], "0.1": [0.9], "0.3": [0.8], "1": [3.0], "3": [9.0], "10": [90.0]}
    assert StartOver().check(ended({EXPERIMENT_STEP_SIZE: row})) is None


def test_any_other_cause_comes_in_its_place() -> None:
    names = [f"net.{i}.weight" for i in range(6)]
    profile = Profile(parameters=tuple(ParameterFact(n, n[:-7], (64, 64)) for n in names))
    vanishing = {name: [10.0 ** (i - 6)] * 300 for i, name in enumerate(names)}
    more = {GRADIENT_NORMS: vanishing, PARAMETER_NORMS: {name: [4.6] * 300 for name in names}}
    found = codes(ended(more, profile=profile))
    assert found[0] == "LP302"
    assert "LP910" not in found


def test_what_still_falls_does_not_call_for_a_new_beginning() -> None:
    wobble = 0.01 * np.sin(np.arange(300.0))
    assert StartOver().check(ended(loss=2.3 - 0.001 * np.arange(300.0) + wobble)) is None
    fell_and_rests = np.concatenate([np.linspace(4.0, 2.3, 60), FLAT])
    assert StartOver().check(ended(loss=fell_and_rests)) is not None
