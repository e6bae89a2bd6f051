"""What is measured on sick trainings, and how it is counted."""

from __future__ import annotations

import pytest

from tests.benchmarks.cases import FAULTS, ZOO, generated, of_the_zoo
from tests.benchmarks.effects import Effect, report


def _effect(approach: str, accuracy: float, case: str = "a") -> Effect:
    return Effect(case, "rate too high", 0, approach, accuracy, 0.9, 400, 1.0)


def test_every_fault_takes_its_turn_and_more_trainings_leave_the_first_ones_as_they_are() -> None:
    few, more = generated(len(FAULTS)), generated(len(FAULTS) + 5)
    assert [case.fault for case in few] == list(FAULTS)
    assert [case.name for case in more[: len(few)]] == [case.name for case in few]


def test_no_two_generated_trainings_are_alike() -> None:
    recipes = [case.sick.__self__ for case in generated(104)]  # type: ignore[attr-defined]
    assert len(recipes) == len(set(recipes)) == 104
    with pytest.raises(ValueError, match="but received 100000"):
        generated(100_000)


def test_every_generated_training_and_its_twin_can_be_built() -> None:
    for case in generated(len(FAULTS)):
        assert case.sick().settings["max_epochs"] >= 10
        assert case.twin is not None
        assert case.twin.training().validation is not None


def test_most_programs_of_the_zoo_are_known_by_their_names() -> None:
    assert 2 * len(of_the_zoo()) > len(ZOO)


def test_only_trainings_that_end_sick_untreated_count() -> None:
    effects = [
        _effect("untreated", 0.5),
        _effect("ours", 0.95),
        _effect("untreated", 0.92, case="b"),
        _effect("ours", 0.2, case="b"),
    ]
    text = report(effects, (), ["untreated", "ours"], "here")
    assert "2 trainings were made wrong; 1 of them ended sick" in text
    assert "| ours | 100.0 % | +45.0 | 1.00 | 1.00 |" in text
