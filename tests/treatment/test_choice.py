"""The choice of the next remedy, as a table of situations."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.remedy import Intervention, Outcome, Verdict
from lightning_plateau.remedies import by_name
from lightning_plateau.remedies.decay_learning_rate import DecayLearningRate
from lightning_plateau.treatment.choice import Choice, Past, choose
from lightning_plateau.treatment.policy import Policy

CATALOGUE = by_name()
AUTO = Policy(safety="unsafe", cooldown_steps=0)
KEPT, REVERTED = Verdict.KEPT, Verdict.REVERTED


def found(code: str, *remedies: str, confidence: float = 0.8, **more: Any) -> Finding:
    severity = more.pop("severity", Severity.ERROR)
    return Finding(code, code.lower(), 500, severity, confidence, "", remedies=remedies, **more)


def past(*trials: tuple[str, str, Verdict | None], every: int = 100, finite: float = 1.0) -> Past:
    made = [
        Intervention(number, number * every, remedy, code)
        for number, (remedy, code, _) in enumerate(trials, start=1)
    ]
    ended = [
        Outcome(i.number, i.step + every, i.remedy, i.code, verdict, "", after={"finite": finite})
        for i, (_, _, verdict) in zip(made, trials, strict=True)
        if verdict is not None
    ]
    return Past(tuple(made), tuple(ended))


def begun_again(before: float, after: float, remedy: str = "decay-learning-rate") -> Past:
    ended = Outcome(
        1, 200, remedy, "LP402", REVERTED, "", {"loss": before, "begun_again": True},
        {"loss": after, "finite": 1.0},
    )  # fmt: skip
    return Past((Intervention(1, 100, remedy, "LP402"),), (ended,))


def pick(
    *findings: Finding, policy: Policy = AUTO, done: Past | None = None, **more: Any
) -> Choice:
    return choose(findings, policy, CATALOGUE, done or Past(), 10_000, **more)


def name_of(choice: Choice) -> str | None:
    return None if choice.remedy is None else choice.remedy.name


DIVERGING = found("LP402", "decay-learning-rate", "clip-gradients", "roll-back")


def test_nothing_found_nothing_done() -> None:
    assert pick() == Choice()


def test_the_most_probable_cause_comes_first() -> None:
    spikes = found("LP303", "clip-gradients")
    assert name_of(pick(spikes, DIVERGING)) == "clip-gradients"
    assert pick(DIVERGING, spikes).finding is DIVERGING


def test_a_symptom_waits_for_its_cause() -> None:
    symptom = found("LP402", "roll-back", explained_by="LP406")
    cause = found("LP406", "decay-learning-rate")
    assert name_of(pick(symptom, cause)) == "decay-learning-rate"
    tried = past(("decay-learning-rate", "LP406", REVERTED))
    assert name_of(pick(symptom, cause, done=tried)) == "roll-back"
    assert name_of(pick(symptom, found("LP406"))) == "roll-back"


def test_a_run_that_is_worth_nothing_does_not_wait() -> None:
    cause = found("LP406", "decay-learning-rate")
    policy = Policy(safety="unsafe", cooldown_steps=10**6)
    done = past(("clip-gradients", "LP303", REVERTED))
    assert name_of(pick(cause, policy=policy, done=done, urgent=True)) == "decay-learning-rate"
    assert pick(cause, policy=policy, done=done).waiting


def test_what_was_too_weak_for_a_broken_run_is_tried_harder() -> None:
    broken = found("LP201", "roll-back", "stop-training")
    trials: list[tuple[str, str, Verdict | None]] = []
    for level in CATALOGUE["roll-back"].levels:
        done = past(*trials, finite=0.1)
        assert pick(broken, done=done, urgent=True).remedy == CATALOGUE["roll-back"](**level)
        trials.append(("roll-back", "LP201", REVERTED))
    assert name_of(pick(broken, done=past(*trials, finite=0.1), urgent=True)) == "stop-training"
    assert name_of(pick(broken, done=past(trials[0], finite=1.0))) == "stop-training"


@pytest.mark.parametrize("remedies", [(), ("change-the-output-layer",), ("stop-training",)])
def test_a_certain_fault_of_the_code_withholds_all_that_is_not_safe(remedies: Any) -> None:
    softmax = found("LP701", *remedies, confidence=1.0)
    choice = pick(DIVERGING, softmax)
    assert choice.remedy is None
    assert {w.remedy for w in choice.withheld} >= {"decay-learning-rate", "roll-back"}
    reason = "it cannot mend LP701 lp701, which is certain"
    assert all(w.reason == reason for w in choice.withheld)
    assert name_of(pick(found("LP201", "skip-step"), softmax)) == "skip-step"


def test_a_certain_fact_that_is_no_error_withholds_nothing() -> None:
    for severity in (Severity.INFO, Severity.WARNING):
        fact = found("LP607", confidence=1.0, severity=severity)
        assert name_of(pick(fact, DIVERGING)) == "decay-learning-rate"


def test_a_certain_fault_that_a_remedy_mends_withholds_nothing() -> None:
    broken = found("LP203", "roll-back", "stop-training", confidence=1.0)
    assert name_of(pick(broken, DIVERGING)) == "roll-back"


def test_one_trial_at_a_time() -> None:
    choice = pick(DIVERGING, done=past(("clip-gradients", "LP303", None)))
    assert choice == Choice(waiting="clip-gradients is on trial since step 100")


def test_cooldown() -> None:
    policy = Policy(safety="unsafe", cooldown_steps=50)
    done = past(("clip-gradients", "LP303", REVERTED))  # judged at step 200
    assert choose([DIVERGING], policy, CATALOGUE, done, 249).waiting
    assert choose([DIVERGING], policy, CATALOGUE, done, 250).remedy is not None


def test_the_budget_does_not_hold_for_what_is_safe() -> None:
    policy = Policy(safety="unsafe", cooldown_steps=0, budget=1)
    done = past(("clip-gradients", "LP303", REVERTED))
    choice = pick(DIVERGING, policy=policy, done=done)
    assert choice.remedy is None
    assert choice.withheld[0].reason == "the budget of 1 interventions is spent"
    assert name_of(pick(found("LP201", "skip-step"), policy=policy, done=done)) == "skip-step"


def test_what_the_policy_does_not_permit_is_withheld_and_said() -> None:
    choice = pick(DIVERGING, policy=Policy.safe())
    assert choice.remedy is None
    assert choice.withheld[0].reason == "the policy does not permit it: it is graded unsafe"


def test_obstacles_lead_to_the_next_of_the_list() -> None:
    choice = pick(DIVERGING, obstacles={"decay-learning-rate": "no scheduler keeps it"})
    assert name_of(choice) == "clip-gradients"
    assert [(w.remedy, w.reason) for w in choice.withheld] == [
        ("decay-learning-rate", "no scheduler keeps it")
    ]


def test_what_was_reverted_is_not_tried_again_for_the_same_fault() -> None:
    done = past(("decay-learning-rate", "LP402", REVERTED))
    assert name_of(pick(DIVERGING, done=done)) == "clip-gradients"
    other = found("LP406", "decay-learning-rate")
    assert name_of(pick(other, done=done)) == "decay-learning-rate"


def test_a_fault_that_comes_back_is_treated_harder_twice_and_then_given_up() -> None:
    trials: list[tuple[str, str, Verdict | None]] = []
    for strength in (1.0, 0.2, 0.04):
        choice = pick(DIVERGING, done=past(*trials))
        assert choice.remedy == DecayLearningRate(strength=strength)
        trials.append(("decay-learning-rate", "LP402", KEPT))
    assert name_of(pick(DIVERGING, done=past(*trials))) == "stop-training"
    without_end = Policy(remedies=("decay-learning-rate", "clip-gradients"), cooldown_steps=0)
    assert name_of(pick(DIVERGING, policy=without_end, done=past(*trials))) is None


def test_a_safe_remedy_may_be_kept_any_number_of_times() -> None:
    broken = found("LP201", "skip-step", "roll-back")
    done = past(*[("skip-step", "LP201", KEPT)] * 5)
    assert name_of(pick(broken, done=done)) == "skip-step"
    done = past(("skip-step", "LP201", KEPT), ("skip-step", "LP201", REVERTED))
    assert name_of(pick(broken, done=done)) == "roll-back"
    done = past(("skip-step", "LP201", REVERTED), finite=0.0)
    assert name_of(pick(broken, done=done)) == "roll-back"


def test_what_stands_guard_already_is_not_put_there_twice() -> None:
    done = past(("clip-gradients", "LP303", KEPT))
    exploding = found("LP301", "clip-gradients", "decay-learning-rate")
    assert name_of(pick(exploding, done=done)) == "decay-learning-rate"


def test_an_unfinished_trial_may_be_repeated() -> None:
    done = past(("decay-learning-rate", "LP402", Verdict.UNFINISHED))
    assert pick(DIVERGING, done=done).remedy == DecayLearningRate()


def test_a_dry_run_chooses_each_remedy_once() -> None:
    made = Intervention(1, 100, "decay-learning-rate", "LP402", dry_run=True)
    choice = pick(DIVERGING, done=Past((made,)))
    assert choice.remedy is None
    assert "dry run" in choice.withheld[0].reason


def test_choosing_is_pure() -> None:
    done = past(("decay-learning-rate", "LP402", KEPT))
    assert pick(DIVERGING, done=done) == pick(DIVERGING, done=done)


def test_steps_that_are_calm_already_are_not_shortened_again() -> None:
    shorter = pick(DIVERGING, done=begun_again(2.3, 4.0)).remedy
    assert isinstance(shorter, DecayLearningRate)
    assert shorter.strength < 1.0
    assert name_of(pick(DIVERGING, done=begun_again(2.3, 2.3))) == "clip-gradients"
