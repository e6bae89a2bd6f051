"""The order in which a run that may begin again is treated."""

from __future__ import annotations

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.treatment.order import first_weights_first


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
