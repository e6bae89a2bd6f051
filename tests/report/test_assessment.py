from __future__ import annotations

from dataclasses import replace

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.remedy import Intervention
from lightning_plateau.report.assessment import Health
from lightning_plateau.report.assessment import assess as assess_run
from lightning_plateau.testing import history
from tests.report.runs import CLIP, DECAY, FLAT, KEPT, NOT_KEPT, SOFTMAX, TOO_HIGH, journal


def assess(findings, journal):
    return assess_run(findings, journal, history())


def test_nothing_found_and_nothing_done_is_healthy():
    assert assess((), journal()).health is Health.HEALTHY


def test_a_symptom_is_folded_under_its_cause():
    state = assess((SOFTMAX, FLAT), journal())
    assert [(c.finding.code, [s.code for s in c.symptoms]) for c in state.causes] == [
        ("LP701", ["LP401"])
    ]


def test_a_symptom_whose_cause_is_not_listed_stands_for_itself():
    state = assess((FLAT,), journal())
    assert [cause.finding.code for cause in state.causes] == ["LP401"]


def test_a_finding_that_explains_itself_is_not_lost():
    state = assess((replace(FLAT, explained_by="LP401"),), journal())
    assert [cause.finding.code for cause in state.causes] == ["LP401"]


def test_a_remark_is_no_illness():
    remark = replace(FLAT, severity=Severity.INFO, explained_by="")
    state = assess((remark,), journal(remark))
    assert (state.health, state.remarks, state.passed) == (Health.HEALTHY, (remark,), ())


def test_treated_when_the_fault_is_gone_and_a_change_stands():
    assert assess((), journal(TOO_HIGH, DECAY, KEPT)).health is Health.TREATED
    assert assess((), journal(TOO_HIGH, DECAY)).health is Health.TREATED


def test_not_treated_when_every_change_was_undone_or_never_made():
    assert assess((), journal(TOO_HIGH, CLIP, NOT_KEPT)).health is Health.HEALTHY
    dry = replace(DECAY, dry_run=True)
    assert assess((), journal(TOO_HIGH, dry)).health is Health.HEALTHY


def test_sick_while_the_fault_is_there_whatever_was_tried():
    assert assess((TOO_HIGH,), journal(TOO_HIGH, DECAY, KEPT)).health is Health.SICK


def test_a_fault_found_twice_on_the_way_counts_once():
    state = assess((), journal(TOO_HIGH, replace(TOO_HIGH, step=90)))
    assert [(f.code, f.step) for f in state.passed] == [("LP406", 50)]


def test_an_intervention_without_outcome_is_in_force():
    guard = Intervention(7, 3, "skip-step", "LP202")
    assert [t.verdict for t in assess((), journal(guard)).treatments] == ["in force"]


def test_a_run_whose_loss_is_not_finite_is_sick_whatever_the_rules_say():
    skipped = Intervention(7, 3, "skip-step", "LP202")
    state = assess_run((), journal(TOO_HIGH, skipped), history(loss=[2.0] + [float("nan")] * 30))
    assert state.health is Health.SICK


def test_a_single_loss_that_is_not_finite_does_not_make_a_treated_run_sick():
    skipped = Intervention(7, 3, "skip-step", "LP202")
    state = assess_run((), journal(TOO_HIGH, skipped), history(loss=[2.0] * 30 + [float("nan")]))
    assert state.health is Health.TREATED


def test_the_same_remedy_again_and_again_is_one_treatment():
    guards = [
        Intervention(n, 50 * n, "skip-step", "LP202", {"skipped": n - 1}, {"skipped": n})
        for n in (1, 2, 3)
    ]
    (treatment,) = assess((), journal(*guards)).treatments
    assert (treatment.times, treatment.last_step, treatment.end) == (3, 150, 150)
    assert (treatment.intervention.step, treatment.intervention.before) == (50, {"skipped": 0})
    assert treatment.intervention.after == {"skipped": 3}


def test_two_remedies_that_take_turns_are_two_treatments():
    skip = Intervention(0, 40, "skip-step", "LP102", {"skipped": 0}, {"skipped": 1})
    made = [
        replace(
            skip, number=turn, step=40 + turn, remedy=("skip-step", "quarantine-batch")[turn % 2]
        )
        for turn in range(6)
    ]
    treated = assess((), journal(*made)).treatments
    assert [(t.intervention.remedy, t.times, t.end) for t in treated] == [
        ("skip-step", 3, 44),
        ("quarantine-batch", 3, 45),
    ]


def test_another_remedy_in_between_ends_a_treatment():
    skip = Intervention(0, 40, "skip-step", "LP102", {"skipped": 0}, {"skipped": 1})
    made = [skip, replace(DECAY, number=1, step=50), replace(skip, number=2, step=60)]
    assert [t.times for t in assess((), journal(*made)).treatments] == [1, 1, 1]


def test_a_fault_is_dated_by_its_first_sight():
    (found,) = assess((replace(TOO_HIGH, step=400),), journal(TOO_HIGH)).causes
    assert found.finding.step == 50
