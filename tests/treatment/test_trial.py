from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD

from lightning_plateau.core.finding import Finding, Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.remedy import Change, Intervention, Outcome, Remedy, Verdict
from lightning_plateau.core.signal import LOSS
from lightning_plateau.remedies.clip_gradients import ClipGradients
from lightning_plateau.remedies.decay_learning_rate import DecayLearningRate
from lightning_plateau.remedies.reinitialize import Reinitialize
from lightning_plateau.remedies.roll_back import RollBack
from lightning_plateau.remedies.skip_step import SkipStep
from lightning_plateau.remedies.weight_decay import WeightDecay
from lightning_plateau.testing import history
from lightning_plateau.training.run import Run
from lightning_plateau.treatment.comparison import Comparison, Level
from lightning_plateau.treatment.terms import Terms
from lightning_plateau.treatment.trial import Trial
from tests.remedies.test_contract import forward_pass
from tests.trainings import Guarding, Regressor, assert_equal, batches, fit, state_of

SICK = Finding("LP402", "diverging-loss", 100, Severity.ERROR, 0.8, "")
START = 100
PROBATION = 60
NAN = float("nan")


def run_at(losses: Any, step: int = START) -> Run:
    guarding = Guarding()
    fit(Regressor(partial(SGD, lr=0.1, momentum=0.9)), batches(5), guarding)
    guarding.run.step = step
    guarding.run.history = history(loss=losses)
    return guarding.run


def noisy(level: float, rows: int, seed: int = 0, spread: float = 0.02) -> np.ndarray:
    return level + spread * np.random.default_rng(seed).standard_normal(rows)


def joined(before: Any, after: Any) -> History:
    return history(loss=np.concatenate([before, after]))


def on_trial(before: Any, remedy: Remedy | None = None) -> tuple[Run, Trial]:
    run = run_at(before)
    return run, Trial.start(run, remedy or DecayLearningRate(), SICK, 1, PROBATION)


def outcome_of(
    before: Any, after: Any, *findings: Finding, remedy: Remedy | None = None
) -> Outcome:
    _, trial = on_trial(before, remedy)
    outcome = trial.judge(joined(before, after), findings)
    assert outcome is not None
    return outcome


def test_a_trial_goes_on_until_probation_is_over() -> None:
    before = noisy(2.0, START)
    _, trial = on_trial(before)
    assert trial.judge(history(loss=before), [SICK]) is None
    assert trial.judge(joined(before, noisy(1.0, PROBATION - 1)), [SICK]) is None
    assert trial.judge(joined(before, noisy(1.0, PROBATION)), [SICK]) is not None


@pytest.mark.parametrize(
    ("after", "still_found", "verdict", "words"),
    [
        (noisy(1.0, PROBATION), False, Verdict.KEPT, "LP402 is gone"),
        (noisy(1.0, PROBATION), True, Verdict.KEPT, "still there, but the loss went from 2"),
        (noisy(2.0, PROBATION, 1), False, Verdict.KEPT, "LP402 is gone"),
        (noisy(2.0, PROBATION, 1), True, Verdict.REVERTED, "that is no improvement"),
        (noisy(3.0, PROBATION), True, Verdict.REVERTED, "it rose"),
        (noisy(3.0, PROBATION), False, Verdict.REVERTED, "it rose"),
        (np.full(PROBATION, NAN), True, Verdict.REVERTED, "not finite in 100 % of the steps"),
    ],
)
def test_verdicts(after: Any, still_found: bool, verdict: Verdict, words: str) -> None:
    outcome = outcome_of(noisy(2.0, START), after, *([SICK] * still_found))
    assert outcome.verdict is verdict
    assert words in outcome.reason
    assert outcome.before["loss"] == pytest.approx(2.0, abs=0.02)
    assert (outcome.number, outcome.code, outcome.remedy) == (1, "LP402", "decay-learning-rate")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_loss_does_not_matter(scale: float) -> None:
    before = scale * noisy(2.0, START)
    assert outcome_of(before, scale * noisy(1.5, PROBATION), SICK).verdict is Verdict.KEPT
    assert outcome_of(before, scale * noisy(2.0, PROBATION, 1), SICK).verdict is Verdict.REVERTED


def test_noise_is_no_improvement() -> None:
    verdicts = [
        outcome_of(
            noisy(2.0, START, seed, 0.5), noisy(2.0, PROBATION, 99 - seed, 0.5), SICK
        ).verdict
        for seed in range(20)
    ]
    assert verdicts.count(Verdict.REVERTED) >= 19


def test_a_loss_that_is_finite_again_is_better() -> None:
    before = np.concatenate([noisy(2.0, 50), np.full(50, NAN)])
    assert outcome_of(before, noisy(2.5, PROBATION), SICK).verdict is Verdict.KEPT


def test_a_broken_loss_ends_the_trial_at_once() -> None:
    before = noisy(2.0, START)
    _, trial = on_trial(before)
    assert trial.judge(joined(before, np.full(9, NAN)), [SICK]) is None
    outcome = trial.judge(joined(before, np.full(10, NAN)), [SICK])
    assert outcome is not None
    assert outcome.verdict is Verdict.REVERTED


def test_skipping_is_kept_while_damaged_batches_go_on_coming() -> None:
    before, after = noisy(2.0, START), noisy(2.0, PROBATION, 1)
    before[::10], after[::10] = NAN, NAN
    assert outcome_of(before, after, SICK, remedy=SkipStep()).verdict is Verdict.KEPT
    broken = np.full(PROBATION, NAN)
    assert outcome_of(before, broken, SICK, remedy=SkipStep()).verdict is Verdict.REVERTED


def test_reverting_undoes_the_change_and_keeps_what_was_learned() -> None:
    before = noisy(2.0, START)
    run, trial = on_trial(before)
    assert run.learning_rates == {"learning_rate": 0.05}
    learn(run)
    learned = state_of(run.trainer)
    settle(run, trial, joined(before, noisy(2.0, PROBATION, 1)))
    assert run.learning_rates == {"learning_rate": 0.1}
    assert_equal(state_of(run.trainer), learned)


def test_where_the_loss_rose_the_state_before_is_restored_too() -> None:
    before = noisy(2.0, START)
    run = run_at(before)
    sound = state_of(run.trainer)
    trial = Trial.start(run, DecayLearningRate(), SICK, 1, PROBATION)
    learn(run)
    settle(run, trial, joined(before, noisy(4.0, PROBATION)))
    assert run.learning_rates == {"learning_rate": 0.1}
    assert_equal(state_of(run.trainer), sound)


def test_what_is_kept_stays() -> None:
    before = noisy(2.0, START)
    run, trial = on_trial(before)
    learn(run)
    learned = state_of(run.trainer)
    settle(run, trial, joined(before, noisy(1.0, PROBATION)))
    assert run.learning_rates == {"learning_rate": 0.05}
    assert_equal(state_of(run.trainer), learned)


def test_the_end_of_training_leaves_a_trial_unfinished() -> None:
    before = noisy(2.0, START)
    _, trial = on_trial(before)
    outcome = trial.unfinished(joined(before, noisy(1.0, 20)))
    assert outcome.verdict is Verdict.UNFINISHED
    assert outcome.reason == "training ended after 20 of 60 steps of probation"


@pytest.mark.parametrize("remedy", [DecayLearningRate(0.1), ClipGradients(1.0), RollBack()])
def test_a_trial_passes_through_a_checkpoint(remedy: Remedy) -> None:
    before = noisy(2.0, START)
    run = run_at(before, step=0)
    run.snapshots.keep(run)
    run.step = START
    expected = state_of(run.trainer), run.learning_rates, run.guard.settings
    learn(run)
    run.snapshots.initial.restore(run)
    trial = Trial.start(run, remedy, SICK, 3, PROBATION)
    file = io.BytesIO()
    torch.save(trial.state_dict(), file)
    file.seek(0)
    resumed = Trial.from_state_dict(torch.load(file, weights_only=True))
    assert resumed.remedy == remedy
    assert resumed.intervention == trial.intervention
    worse = joined(before, noisy(4.0, PROBATION))
    assert resumed.judge(worse, [SICK]) == trial.judge(worse, [SICK])
    learn(run)
    settle(run, resumed, worse)
    assert_equal(state_of(run.trainer), expected[0])
    assert (run.learning_rates, run.guard.settings) == expected[1:]


def test_a_remedy_of_another_version_is_named() -> None:
    _, trial = on_trial(noisy(2.0, START))
    state = {**trial.state_dict(), "remedy": "pray"}
    with pytest.raises(ValueError, match="the checkpoint holds a trial of 'pray'"):
        Trial.from_state_dict(state)


def test_levels_of_nothing() -> None:
    assert Level.of([]).is_finite
    assert not Level.of([NAN]).is_finite
    empty = Comparison(Level.of([]), Level.of([1.0, 1.0]))
    assert not empty.worse
    assert not empty.better
    assert LOSS.tag == "loss/train"


def learn(run: Run) -> None:
    for parameter in run.module.parameters():
        parameter.grad = torch.ones_like(parameter)
    run.adapters[0].optimizer.step()


def settle(run: Run, trial: Trial, recorded: History) -> None:
    outcome = trial.judge(recorded, [SICK])
    assert outcome is not None
    trial.settle(run, outcome, recorded)


def begun_again(before: Any) -> Trial:
    run = run_at(before, step=0)
    run.snapshots.keep(run)
    run.step = START
    trial = Trial.start(run, DecayLearningRate(), SICK, 1, PROBATION)
    assert trial.terms.fresh
    return trial


def test_a_run_that_began_again_in_vain_is_given_up_halfway() -> None:
    before = noisy(2.3, START, 0, 0.001)
    trial = begun_again(before)
    flat = noisy(2.3, PROBATION // 2, 1, 0.001)
    assert trial.judge(joined(before, flat[:-1]), [SICK]) is None
    outcome = trial.judge(joined(before, flat), [SICK])
    assert outcome is not None
    assert outcome.verdict is Verdict.REVERTED
    falling = flat * np.linspace(1.0, 0.8, len(flat))
    assert trial.judge(joined(before, falling), [SICK]) is None


def test_a_run_that_began_again_in_vain_is_given_back_as_it_was() -> None:
    """A plateau may be about to end: what was learned on it is not to be learned again."""
    before = noisy(2.3, START, 0, 0.001)
    run = run_at(before, step=0)
    run.snapshots.keep(run)
    weight = run.module.net[0].weight.data
    first, learned = weight.clone(), weight + 1.0
    weight.copy_(learned)
    run.step = START
    trial = Trial.start(run, DecayLearningRate(), SICK, 1, PROBATION)
    assert torch.equal(weight, first)
    recorded = joined(before, noisy(2.3, PROBATION // 2, 1, 0.001))
    outcome = trial.judge(recorded, [SICK])
    assert outcome is not None
    trial.settle(run, outcome, recorded)
    assert outcome.verdict is Verdict.REVERTED
    assert torch.equal(weight, learned)


def test_a_run_that_began_again_is_given_more_time_while_it_falls() -> None:
    """Deep networks stay near the loss of guessing for a while before they learn."""
    before = noisy(2.3, START, 0, 0.001)
    slope = np.linspace(0.0, 0.06, 3 * PROBATION)
    falling = 2.3 + noisy(0.0, 3 * PROBATION, 1, 0.01) - slope
    flat = 2.3 + noisy(0.0, 3 * PROBATION, 1, 0.01)
    trial = begun_again(before)
    assert trial.judge(joined(before, falling[: PROBATION + 10]), [SICK]) is None
    outcome = trial.judge(joined(before, flat), [SICK])
    assert outcome is not None
    assert outcome.verdict is Verdict.REVERTED
    assert trial.judge(joined(before, falling), [SICK]) is not None


def test_weights_off_scale_are_mended_where_the_loss_is_that_of_guessing() -> None:
    before = noisy(2.3, START, 0, 0.001)
    run = run_at(before, step=0)
    run.snapshots.keep(run)
    run.step = START
    made = Intervention(1, START, "reinitialize", SICK.code)
    level = Level.of([2.3])

    def verdict(remedy: Remedy, first: float, now: float) -> Verdict:
        terms = Terms(level, PROBATION, fresh=True, first=first)
        trial = Trial(remedy, made, Change(), terms)
        outcome = trial.judge(joined(before, noisy(now, PROBATION, 1, 0.001)), [])
        assert outcome is not None
        return outcome.verdict

    assert verdict(Reinitialize(), float("inf"), 2.3) is Verdict.KEPT
    assert verdict(Reinitialize(), 1e6, 2.3) is Verdict.KEPT
    assert verdict(Reinitialize(), 1e6, 2.5) is Verdict.REVERTED
    assert verdict(Reinitialize(), 2.4, 2.3) is Verdict.REVERTED
    assert verdict(DecayLearningRate(), 1e6, 2.3) is Verdict.REVERTED


def test_shorter_steps_are_kept_where_they_overshoot_no_more() -> None:
    before = np.concatenate([noisy(2.3, 10, 0, 0.01), noisy(4.0, START - 10, 1, 0.5)])
    trial = begun_again(before)
    assert trial.terms.overshot
    outcome = trial.judge(joined(before, noisy(2.3, PROBATION, 2, 0.01)), [SICK])
    assert outcome is not None
    assert outcome.verdict is Verdict.KEPT
    assert "no longer overshoots" in outcome.reason
    still = trial.judge(joined(before, noisy(3.5, PROBATION, 2, 0.5)), [SICK])
    assert still is not None
    assert still.verdict is Verdict.REVERTED


def test_noise_that_may_hide_a_gain_is_given_its_time() -> None:
    before = noisy(2.5, START, 0, 0.3)
    before[0] = 2.3
    assert begun_again(before).judge(joined(before, noisy(2.3, 30, 1, 0.5)), [SICK]) is None


def test_a_loss_that_was_falling_anyway_is_no_merit() -> None:
    before = np.linspace(2.0, 1.5, START)
    at_the_same_pace = np.linspace(1.5, 1.2, PROBATION)
    assert outcome_of(before, at_the_same_pace, SICK).verdict is Verdict.REVERTED
    faster = np.linspace(1.5, 0.8, PROBATION)
    assert outcome_of(before, faster, SICK).verdict is Verdict.KEPT


def test_what_is_to_be_faster_must_be() -> None:
    before = np.linspace(2.0, 1.5, START)
    trial = Trial.start(run_at(before), DecayLearningRate(), SICK, 1, PROBATION, must_improve=True)
    for end, verdict in ((1.2, Verdict.REVERTED), (0.8, Verdict.KEPT)):
        outcome = trial.judge(joined(before, np.linspace(1.5, end, PROBATION)), [])
        assert outcome is not None
        assert outcome.verdict is verdict


def test_what_has_come_far_enough_is_kept_though_it_fell_before() -> None:
    before = np.linspace(2.0, 1.0, START) * np.linspace(1.0, 0.3, START)
    trial = Trial.start(run_at(before), DecayLearningRate(), SICK, 1, PROBATION, must_improve=True)
    for end, verdict in ((0.1, Verdict.REVERTED), (0.02, Verdict.KEPT)):
        outcome = trial.judge(joined(before, np.geomspace(0.3, end, PROBATION)), [SICK])
        assert outcome is not None
        assert outcome.verdict is verdict


def test_a_run_that_began_again_is_slow_if_it_will_not_lose_most_of_its_loss() -> None:
    before = noisy(2.3, START, 0, 0.001)
    trial = begun_again(before)
    after = joined(before, np.linspace(2.3, 2.1, PROBATION))
    assert trial.is_slow(after, 20 * PROBATION)
    assert not trial.is_slow(after, 40 * PROBATION)
    assert not trial.is_slow(joined(before, np.linspace(2.3, 0.5, PROBATION)), 2 * PROBATION)


def test_what_has_come_far_by_itself_needs_nothing_more() -> None:
    before = np.linspace(2.0, 1.5, START)
    trial = Trial.start(run_at(before), DecayLearningRate(), SICK, 1, PROBATION, must_improve=True)
    assert trial.is_open(joined(before, np.linspace(1.5, 1.4, PROBATION)), PROBATION)
    assert trial.is_open(joined(before, np.full(PROBATION, NAN)), PROBATION)
    assert not trial.is_open(joined(before, np.geomspace(1.5, 0.1, PROBATION)), PROBATION)


def test_fresh_weights_that_are_kept_are_the_new_beginning() -> None:
    before = noisy(1.0, START, 0, 0.001)
    run = run_at(before, step=0)
    run.snapshots.keep(run)
    run.step = START
    run.snapshots.keep(run)
    run.refresh(history(loss=before, tapes=[forward_pass()]))
    trial = Trial.start(run, Reinitialize(), SICK, 1, PROBATION)
    fresh = state_of(run.trainer)
    learn(run)
    settle(run, trial, joined(before, noisy(0.3, PROBATION)))
    assert run.snapshots.good == ()
    run.snapshots.initial.restore(run)
    assert_equal(state_of(run.trainer), fresh)


def test_a_loss_that_rises_less_than_it_would_have_is_said_to() -> None:
    decay = WeightDecay()
    slower = Comparison(Level(1.1, 0.01, 1.0), Level(1.5, 0.01, 1.0), drift=0.8)
    verdict, reason = slower.verdict(decay, "LP801", still_found=True)
    assert verdict is Verdict.KEPT
    assert reason.endswith(
        "the validation loss went from 1.1 to 1.5, less than it would have risen"
    )


def test_a_loss_that_has_doubled_is_not_kept_were_it_by_chance() -> None:
    noise = Comparison(Level(7.4, 2.0, 1.0), Level(21.5, 20.0, 1.0))
    assert not noise.worse
    verdict, reason = noise.verdict(WeightDecay(), "LP801", still_found=False)
    assert verdict is Verdict.REVERTED
    assert reason.endswith("it rose")


def test_a_leap_far_above_guessing_ends_a_trial_whatever_it_is_judged_by() -> None:
    before = noisy(0.3, START)
    before[0] = 2.3
    run = run_at(before)
    weight = run.module.net[0].weight.data
    learned = weight.clone()
    trial = Trial.start(run, WeightDecay(), replace(SICK, code="LP801"), 1, PROBATION)
    weight.add_(1.0)
    assert trial.judge(joined(before, noisy(0.4, 20)), []) is None
    recorded = joined(before, [*noisy(0.4, 5), *noisy(50.0, 10)])
    outcome = trial.judge(recorded, [])
    assert outcome is not None
    assert outcome.verdict is Verdict.REVERTED
    assert "twice that of guessing" in outcome.reason
    trial.settle(run, outcome, recorded)
    assert torch.equal(weight, learned)


def test_what_takes_the_place_of_a_spoilt_network_must_come_to_more_and_has_time() -> None:
    before = noisy(1.6, START, 0, 0.01)
    trial = begun_again(noisy(2.3, START, 0, 0.001))
    trial.terms = replace(trial.terms, ruined=True, before=Level(1.6, 0.0, 1.0))
    falling = np.linspace(2.3, 1.1, 3 * PROBATION) + noisy(0.0, 3 * PROBATION, 1, 0.01)
    assert trial.judge(joined(before, falling[: PROBATION + 10]), [SICK]) is None
    better = trial.judge(joined(before, falling), [])
    assert better is not None
    assert better.verdict is Verdict.KEPT
    worse = trial.judge(joined(before, falling / 2 + 1.15), [])
    assert worse is not None
    assert worse.verdict is Verdict.REVERTED
