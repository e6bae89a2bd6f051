"""Which experiment comes next."""

from __future__ import annotations

from dataclasses import replace

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.signal import EXPERIMENT_OVERFIT, EXPERIMENT_STEP_SIZE
from lightning_plateau.core.tape import Operation, Tape
from lightning_plateau.experiments import by_name, catalogue
from lightning_plateau.experiments.plan import (
    next_of_check,
    next_when_stuck,
)
from lightning_plateau.testing import history

LEARNED = history({EXPERIMENT_OVERFIT: {"before": [2.0], "own": [0.1]}})
UNFIT = history({EXPERIMENT_OVERFIT: {"before": [2.0], "own": [2.0], "adam": [2.0]}})


def found(code: str, confidence: float = 0.8, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(code, code.lower(), 100, severity, confidence, "…")


def row(recorded: History, *findings: Finding) -> list[str]:
    """All experiments that would be made, one after the other."""
    made: list[str] = []
    while (wanted := next_when_stuck(recorded, findings, made)) is not None:
        made.append(wanted.name)
    return made


def test_a_training_that_goes_down_is_left_alone() -> None:
    assert row(LEARNED) == []
    assert row(LEARNED, found("LP801")) == []
    assert row(LEARNED, found("LP607", 1.0, Severity.INFO)) == []


def test_a_flat_loss_is_asked_the_cheap_questions_first() -> None:
    names = ["zero-inputs", "batch-mixing", "step-size", "overfit-one-batch"]
    assert row(UNFIT, found("LP401")) == names
    assert row(LEARNED, found("LP401")) == [*names, "shuffled-labels"]


def test_what_is_suspected_already_comes_first() -> None:
    assert row(LEARNED, found("LP406"), found("LP401"))[0] == "step-size"
    assert row(LEARNED, found("LP406"), found("LP403")) == ["step-size"]


def test_what_costs_next_to_nothing_does_not_wait_for_a_long_test_of_a_suspicion() -> None:
    made = row(LEARNED, found("LP802", 0.45, Severity.WARNING), found("LP401"))
    assert made[:3] == ["zero-inputs", "batch-mixing", "step-size"]
    assert set(made[3:]) == {"overfit-one-batch", "shuffled-labels"}


def test_a_probable_cause_is_tested_alone() -> None:
    assert row(LEARNED, found("LP501", 0.95), found("LP401")) == []
    assert row(LEARNED, found("LP406", 0.95), found("LP401")) == ["step-size"]


def test_a_suspicion_is_tested_though_the_loss_goes_down() -> None:
    assert row(LEARNED, found("LP602", 0.65, Severity.WARNING)) == ["train-against-eval"]
    assert row(LEARNED, found("LP106", 0.75)) == ["shuffled-labels"]


def test_a_certain_cause_needs_no_experiment() -> None:
    assert row(LEARNED, found("LP701", 1.0), found("LP401")) == []
    # That the loss is flat may be certain; why it is, is not.
    assert row(LEARNED, found("LP401", 1.0)) != []
    assert row(LEARNED, found("LP903", 1.0, Severity.INFO), found("LP401")) != []


def test_what_is_not_finite_is_replayed() -> None:
    assert row(LEARNED, found("LP201", 1.0), found("LP401")) == ["replay-batch"]


def test_a_check_makes_all_that_are_worth_it() -> None:
    made: list[str] = []
    while (wanted := next_of_check(LEARNED, made)) is not None:
        made.append(wanted.name)
    assert made[0] == "zero-inputs"
    assert made[-1] == "shuffled-labels"
    later = next_of_check(replace(LEARNED, step=100), made)
    assert later is not None
    assert later.name == "train-against-eval"


def test_a_thorough_check_makes_them_all_but_the_replay() -> None:
    made: list[str] = []
    late = replace(LEARNED, step=100)
    while (wanted := next_of_check(late, made, thorough=True)) is not None:
        made.append(wanted.name)
    assert set(made) == set(by_name()) - {"replay-batch", "gradient-through-time"}


def test_only_where_there_is_recurrence_gradients_are_followed_through_time() -> None:
    read = Tape(0, (Operation(0, "rnn_tanh", "net.rnn"),))
    assert "gradient-through-time" in row(history(tapes=[read]), found("LP401"))
    assert "gradient-through-time" not in row(history(), found("LP401"))


def test_where_the_steps_have_the_wrong_length_a_better_one_is_looked_for() -> None:
    losses = {"0": [1.0], "0.1": [0.9], "0.3": [0.8], "1": [3.0], "3": [9.0], "10": [90.0]}
    long = history({EXPERIMENT_STEP_SIZE: losses})
    assert row(long, found("LP403")) == ["step-size", "learning-rate-range"]


def test_every_experiment_has_a_name_and_a_signal_of_its_own() -> None:
    assert len(by_name()) == len(catalogue()) == len({kind.signal.tag for kind in catalogue()})
    for kind in catalogue():
        assert kind.signal.tag.startswith("experiment/")
        assert kind.signal.axis == "condition"
        assert kind.__doc__
        assert 0 < kind.cost <= 200
        assert 1 <= kind.batches <= 16
