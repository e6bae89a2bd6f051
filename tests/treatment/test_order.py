"""The order in which a run that may begin again is treated."""

from __future__ import annotations

from dataclasses import replace

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.treatment.order import back_first, first_weights_first


def found(code: str, explained_by: str = "") -> Finding:
    return Finding(code, "fault", 0, Severity.ERROR, 0.8, "message", explained_by=explained_by)


def order(*findings: Finding) -> list[str]:
    return [finding.code for finding in first_weights_first(findings)]


def test_weights_that_are_off_scale_come_before_the_long_steps_that_they_make() -> None:
    assert order(found("LP406"), found("LP401", "LP406"), found("LP706", "LP406")) == [
        "LP706",
        "LP406",
        "LP401",
    ]
    [first, *_] = first_weights_first([found("LP301"), found("LP706", "LP301")])
    assert not first.explained_by


def test_another_cause_of_a_loss_that_is_off_stays_first() -> None:
    assert order(found("LP101"), found("LP406"), found("LP706", "LP101")) == [
        "LP101",
        "LP406",
        "LP706",
    ]
    assert order(found("LP101"), found("LP406"), found("LP504")) == ["LP101", "LP504", "LP406"]


def test_without_long_steps_the_order_stays() -> None:
    assert order(found("LP501"), found("LP706")) == ["LP501", "LP706"]
    assert order() == []


def test_what_is_being_lost_is_gone_back_to_before_its_cause_is_treated() -> None:
    long = replace(found("LP406"), remedies=("decay-learning-rate", "roll-back"))
    other = replace(found("LP501"), remedies=("reinitialize",))
    [first, second, _] = back_first([long, other, found("LP402", "LP406")])
    assert first.remedies == ("roll-back", "decay-learning-rate")
    assert second is other
    assert back_first([long, other]) == (long, other)
