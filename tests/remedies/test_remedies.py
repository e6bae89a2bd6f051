"""What is particular about each remedy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import LBFGS, SGD, AdamW

from lightning_plateau.core.signal import GRADIENT_NORM
from lightning_plateau.remedies.clip_gradients import ClipGradients
from lightning_plateau.remedies.decay_learning_rate import DecayLearningRate
from lightning_plateau.remedies.roll_back import RollBack
from lightning_plateau.remedies.skip_step import SkipStep
from lightning_plateau.remedies.stop_training import StopTraining
from lightning_plateau.testing import history
from lightning_plateau.training.clipping import usual_norm
from lightning_plateau.training.guard import GuardSettings
from lightning_plateau.training.run import Run
from tests.trainings import Guarding, Regressor, assert_equal, batches, fit, sgd, state_of

NORMS = history({GRADIENT_NORM: [1.0, 2.0, 3.0] * 20})


def run_of(make: Any = sgd, **settings: Any) -> Run:
    guarding = Guarding()
    fit(Regressor(make), batches(3), guarding, **settings)
    guarding.run.refresh(NORMS)
    guarding.run.trainer.should_stop = False
    return guarding.run


class Acting(Guarding):
    """Does something after each step."""

    def __init__(self, act: Callable[[Run], None]) -> None:
        super().__init__()
        self.act = act

    def on_train_batch_end(self, *arguments: Any) -> None:
        super().on_train_batch_end(*arguments)
        self.act(self.run)


def test_repeated_closures_can_be_neither_skipped_nor_clipped() -> None:
    run = run_of(partial(LBFGS, lr=0.1))
    for remedy in (SkipStep(), ClipGradients()):
        assert remedy.obstacle(run) == "LBFGS evaluates its closure several times a step"
    assert DecayLearningRate().obstacle(run) is None


def test_the_clip_value_of_the_user_wins() -> None:
    run = run_of(gradient_clip_val=2.0)
    assert ClipGradients().obstacle(run) == "gradient_clip_val is set to 2.0"
    run.allow_user_overrides = True
    assert ClipGradients().obstacle(run) is None


def test_the_limit_is_the_usual_norm_and_follows_it() -> None:
    run = run_of()
    ClipGradients(share=0.5).apply(run)
    assert run.guard.settings.clip_norm == 1.0
    run.refresh(history({GRADIENT_NORM: [4.0, 8.0, 6.0] * 20}))
    assert run.guard.settings.clip_norm == 3.0
    run.refresh(history())
    assert run.guard.settings.clip_norm == 3.0


def test_a_limit_that_is_given_stays() -> None:
    run = run_of()
    run.refresh(history())
    ClipGradients(limit=5.0).apply(run)
    run.refresh(NORMS)
    assert run.guard.settings.clip_norm == 5.0


def test_a_run_that_was_never_sound_is_clipped_at_the_customary_limit() -> None:
    run = run_of()
    run.refresh(history({GRADIENT_NORM: [1.0] * 10 + [float("nan")] * 50}))
    assert ClipGradients(share=0.5).apply(run).after == {"clip_norm": 0.5}
    assert run.guard.settings.clip_share is None


@pytest.mark.parametrize(
    "odd", [[1e9] * 40, [float("inf")] * 40, [float("nan")] * 40, [0.0] * 40, [1e3, 2.0] * 20]
)
def test_what_explodes_does_not_raise_the_limit(odd: list[float]) -> None:
    norms = np.random.default_rng(0).lognormal(0.0, 0.1, 100)
    usual = usual_norm(history({GRADIENT_NORM: [*norms, *odd]}))
    assert usual == pytest.approx(1.0, rel=0.3)


def test_an_accelerator_that_may_not_be_waited_for_cannot_skip() -> None:
    class Accelerated:
        fused = False
        accelerated = True

        def obstacle(self, action: str) -> None:
            return None

    run = run_of()
    run.adapters = (Accelerated(),)  # type: ignore[assignment]
    assert SkipStep().obstacle(run) is None
    run.guard.settings = GuardSettings(wait_for_device=False)
    assert "may not wait" in str(SkipStep().obstacle(run))


def test_rolling_back_restores_the_weights_and_goes_on_counting() -> None:
    states = {}

    def keep(run: Run) -> None:
        assert run.snapshots.keep(run)
        states["kept"] = state_of(run.trainer)

    def roll_back(run: Run) -> None:
        change = RollBack(factor=0.5).apply(run)
        states["back"] = state_of(run.trainer)
        states["counted"] = (run.trainer.global_step, run.step)
        assert change.before == {"state_of_step": 7, "learning_rate": 0.1}
        assert change.after == {"state_of_step": 3, "learning_rate": 0.05}

    def act(run: Run) -> None:
        {3: keep, 7: roll_back}.get(run.step, lambda _: None)(run)

    make = partial(SGD, lr=0.1, momentum=0.9)
    trainer = fit(Regressor(make), batches(10), Acting(act))
    assert trainer.global_step == 10
    assert states["counted"] == (7, 7)
    assert_equal(states["back"], states["kept"])


def test_a_run_is_rolled_back_three_times_at_most() -> None:
    run = run_of()
    assert RollBack().obstacle(run) == "there is no snapshot to go back to"
    run.step = 0
    run.snapshots.keep(run)
    run.step = 10
    for _ in range(3):
        assert RollBack().obstacle(run) is None
        RollBack().apply(run)
    assert RollBack().obstacle(run) == "the run was rolled back 3 times already"
    other = run_of()
    other.snapshots.load_state_dict(run.snapshots.state_dict())
    assert other.snapshots.restored == 3


def test_rolling_back_leaves_the_snapshot_as_it_was() -> None:
    run = run_of(partial(AdamW, lr=0.1))
    run.step = 0
    run.snapshots.keep(run)
    expected = state_of(run.trainer)
    run.step = 10
    for _ in range(2):
        RollBack(to="initial").apply(run)
        assert_equal(state_of(run.trainer), expected)
        for parameter in run.module.parameters():
            parameter.grad = torch.ones_like(parameter)
        run.adapters[0].optimizer.step()


def test_stopping_ends_the_training_with_its_reason() -> None:
    def stop(run: Run) -> None:
        if run.step != 4:
            return
        assert StopTraining().obstacle(run) is None
        StopTraining(reason="LP402 came back").apply(run)
        assert run.stop_reason == "LP402 came back"
        assert StopTraining().obstacle(run) == "the training is stopping already"

    trainer = fit(Regressor(), batches(10), Acting(stop))
    assert trainer.global_step == 4


@pytest.mark.parametrize("remedy", [DecayLearningRate, RollBack])
def test_a_factor_must_be_positive(remedy: Any) -> None:
    with pytest.raises(ValueError, match="factor must be a positive finite number, but is 0"):
        remedy(factor=0.0)
    with pytest.raises(ValueError, match="to must be 'last' or 'initial', but is 'first'"):
        RollBack(to="first")  # type: ignore[arg-type]
