"""Which finding ends a trial, and which a whole search."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState, create_trial

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.rules import catalogue
from lightning_plateau.tuning.fault import (
    FAULT,
    OF_THE_CODE,
    beyond_search,
    described,
    fatal,
    shared_fault,
)
from lightning_plateau.tuning.space import Space
from lightning_plateau.tuning.spaces import learning_rate


def found(code="LP406", confidence=0.9, severity=Severity.ERROR, explained_by=""):
    return Finding(
        code, "name", 10, severity, confidence, "seen", fix="do", explained_by=explained_by
    )


def dead(code, confidence=0.9):
    fault = described(found(code, confidence))
    return create_trial(state=TrialState.PRUNED, user_attrs={FAULT: fault})


WELL = create_trial(state=TrialState.COMPLETE, value=1.0)
WIDTHS = Space.of({"width": [1, 2]})


@pytest.mark.parametrize(
    ("finding", "ends"),
    [
        (found(), True),
        (found(confidence=1.0), True),
        (found(confidence=0.5), False),
        (found(severity=Severity.WARNING), False),
        (found(severity=Severity.INFO, confidence=1.0), False),
        (found(explained_by="LP101"), False),
    ],
)
def test_an_error_that_is_likely_and_stands_first_ends_a_trial(finding, ends) -> None:
    assert (fatal([found(confidence=0.3), finding]) is finding) is ends


def test_a_symptom_alone_must_show_twice() -> None:
    assert fatal([found("LP402")]) is None
    assert fatal([found("LP402")], {"LP402"}) is not None


def test_faults_of_the_code_are_rules() -> None:
    assert {rule.code for rule in catalogue()} >= OF_THE_CODE


@pytest.mark.parametrize(
    ("trials", "space", "stops"),
    [
        ([dead("LP701", 1.0)], learning_rate, True),
        ([dead("LP701", 1.0)], WIDTHS, False),  # another module may not have it
        ([dead("LP701", 1.0)] * 3, WIDTHS, True),
        ([dead("LP101")] * 2, learning_rate, False),
        ([dead("LP101")] * 3, learning_rate, True),
        ([dead("LP101")] * 3 + [WELL], learning_rate, False),
        ([dead("LP406", 1.0)] * 9, learning_rate, False),  # what the search is for
        ([], learning_rate, False),
    ],
)
def test_a_fault_that_no_setting_mends_stops_the_search(trials, space, stops) -> None:
    assert (shared_fault(trials, space) is not None) is stops


def test_the_wiring_and_the_objective_are_beyond_a_search() -> None:
    assert [code for code in ("LP305", "LP703", "LP105") if not beyond_search(code)] == []
    assert [code for code in ("LP301", "LP407", "LP501", "LP801") if beyond_search(code)] == []
