from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.signal import LEARNING_RATES, VALIDATION_LOSS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.flat_loss import FlatLoss
from lightning_plateau.testing import history

Floats = np.ndarray[Any, Any]
Curve = Callable[[Floats, Callable[..., Floats]], Floats]


def classifier_tape(classes: int = 10) -> Tape:
    logits = Operation(
        0,
        "linear",
        "fc",
        (Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="fc.weight")),
        (8, classes),
    )
    operands = (Operand("operation", 0, shape=(8, classes)), Operand("batch", 1, "1", (8,)))
    return Tape(0, (logits, Operation(1, "cross_entropy", "", operands)), root=1)


def regression_tape(variance: float) -> Tape:
    made = Operation(
        0,
        "linear",
        "fc",
        (Operand("batch", 0, "0", (8, 4)), Operand("parameter", name="fc.weight")),
        (8, 1),
    )
    target = Operand(
        "batch", 1, "1", (8, 1), statistics={"mean": 150.0, "std": float(np.sqrt(variance))}
    )
    return Tape(
        0,
        (made, Operation(1, "mse_loss", "", (Operand("operation", 0, shape=(8, 1)), target))),
        root=1,
    )


def run(curve: Curve, steps: int, seed: int) -> History:
    random = np.random.default_rng(seed)
    return history(loss=curve(np.arange(steps) / steps, random.normal))


FLAT: dict[str, Curve] = {
    "noise-free": lambda t, n: 2.3 + 0 * t,
    "mini-batch noise of 3 %": lambda t, n: 2.3 + n(0, 0.07, t.shape),
    "huge": lambda t, n: 1e12 * (1 + n(0, 0.01, t.shape)),
    "tiny": lambda t, n: 1e-12 * (1 + n(0, 0.01, t.shape)),
    "negative": lambda t, n: -0.4 + n(0, 0.004, t.shape),
    "falls by 1 % in the whole": lambda t, n: 2.3 - 0.02 * t + n(0, 0.001, t.shape),
    "rises": lambda t, n: 2.3 + 0.3 * t + n(0, 0.03, t.shape),
    "a few spikes": lambda t, n: 2.3 + n(0, 0.02, t.shape) + 20.0 * (n(0, 1, t.shape) > 2.3),
    "nothing but zero": lambda t, n: 0 * t,
}
FALLING: dict[str, Curve] = {
    "exponential": lambda t, n: 2.3 * np.exp(-3 * t) + n(0, 0.05, t.shape),
    "linear, with noise": lambda t, n: 2.3 - 1.1 * t + n(0, 0.2, t.shape),
    "at once, then its floor": lambda t, n: 0.3 + 2 * np.exp(-200 * t) + n(0, 0.02, t.shape),
    "plateau, then a drop": lambda t, n: (
        2.3 - 1.5 * (t > 0.7) * (t - 0.7) / 0.3 + n(0, 0.02, t.shape)
    ),
    "through zero": lambda t, n: 1 - 3 * t + n(0, 0.1, t.shape),
    "very noisy": lambda t, n: np.abs(2.3 * np.exp(-2 * t) * (1 + n(0, 0.5, t.shape))),
    "huge": lambda t, n: 1e12 * np.exp(-3 * t),
    "to zero": lambda t, n: np.exp(-60 * t),
}


@pytest.mark.parametrize("steps", [30, 300, 3000])
@pytest.mark.parametrize("kind", FLAT)
def test_flat(kind: str, steps: int) -> None:
    found = [FlatLoss().check(run(FLAT[kind], steps, seed)) for seed in range(5)]
    assert sum(one is not None for one in found) >= 4, "chance may make one of five look falling"


@pytest.mark.parametrize("steps", [30, 300, 3000])
@pytest.mark.parametrize("kind", FALLING)
def test_falling(kind: str, steps: int) -> None:
    found = [FlatLoss().check(run(FALLING[kind], steps, seed)) for seed in range(5)]
    assert not any(found)


def test_flat_in_batches_of_one_once_there_is_enough_of_it() -> None:
    wild = run(lambda t, n: 2.3 * np.abs(1 + n(0, 0.5, t.shape)), 2000, 0)
    assert FlatLoss().check(wild) is not None
    assert FlatLoss().check(wild.since(1970)) is None, "30 steps of such noise prove nothing"


@pytest.mark.parametrize("start", [80.0, 2.5])
def test_fell_to_chance_and_stays_there(start: float) -> None:
    losses = 2.3 + (start - 2.3) * np.exp(-np.arange(200) / 3.0)
    found = FlatLoss().check(history(loss=losses, tapes=[classifier_tape()]))
    assert found is not None
    assert found.confidence == 0.95
    assert "guessing gives 2.303" in found.message


def test_regression_that_learned_only_the_mean() -> None:
    losses = 5900 + 23000 * np.exp(-np.arange(200) / 5.0)
    assert FlatLoss().check(history(loss=losses, tapes=[regression_tape(6000.0)])) is not None
    assert FlatLoss().check(history(loss=losses / 2, tapes=[regression_tape(6000.0)])) is None


def test_pretrained_model_starts_at_its_floor() -> None:
    losses = [0.4, 0.41] * 100
    assert FlatLoss().check(history(loss=losses, tapes=[classifier_tape()])) is None


def test_slow_fall_is_judged_by_where_it_leads() -> None:
    losses = 2.3 - 0.0002 * np.arange(200)
    long = Profile(planned_steps=10_000)
    assert FlatLoss().check(history(loss=losses, profile=long)) is None
    short = Profile(planned_steps=200)
    assert FlatLoss().check(history(loss=losses, profile=short, finished=True)) is not None


def test_warm_up_is_given_time() -> None:
    ramp = {LEARNING_RATES: {"0": np.linspace(1e-6, 1e-3, 100)}}
    losses = np.full(100, 2.3)
    assert FlatLoss().check(history(ramp, loss=losses)) is None
    assert FlatLoss().check(history(ramp, loss=losses, finished=True)) is not None


def test_two_optimizers_are_not_judged() -> None:
    adversaries = Profile(optimizers=(OptimizerFact("Adam"), OptimizerFact("Adam")))
    assert FlatLoss().check(history(loss=[0.7] * 300, profile=adversaries)) is None


@pytest.mark.parametrize("losses", [[], [2.3], [2.3] * 19, [float("nan")] * 100])
def test_too_little_to_say(losses: list[float]) -> None:
    assert FlatLoss().check(history(loss=losses)) is None


@pytest.mark.parametrize(("classes", "share", "flat"), [(10, 0.85, True), (2, 0.85, False)])
def test_stalled_above_four_fifths_of_chance(classes: int, share: float, flat: bool) -> None:
    level = share * np.log(classes)
    losses = level + (np.log(classes) - level) * np.exp(-np.arange(300) / 10)
    found = FlatLoss().check(history(loss=losses, tapes=[classifier_tape(classes)]))
    assert (found is not None) is flat


@pytest.mark.parametrize(("steps", "flat"), [(166, False), (167, True)])
def test_a_plateau_at_the_start_is_given_a_sixth_of_the_run(steps: int, flat: bool) -> None:
    planned = Profile(planned_steps=1002)
    assert (FlatLoss().check(history(loss=[2.3] * steps, profile=planned)) is not None) is flat
    ended = history(loss=[2.3] * steps, profile=planned, finished=True)
    assert FlatLoss().check(ended) is not None


def test_estimates_that_hover_about_zero_are_not_judged() -> None:
    surrogate = np.random.default_rng(1).normal(-0.1, 0.1, 600)
    assert FlatLoss().check(history(loss=surrogate, finished=True)) is None
    assert FlatLoss().check(history(loss=surrogate - 1, finished=True)) is not None


def test_a_loss_that_seems_to_fall_is_given_until_the_run_is_over() -> None:
    falls = 1.3 + 0.1 * np.sin(17.0 * np.arange(100)) + np.repeat([0.2, 0.1, 0.03, 0.0], 25)
    tape = regression_tape(1.2)
    assert FlatLoss().check(history(loss=falls, tapes=[tape])) is None
    rests = np.concatenate([falls[:25], falls[75:], falls[75:], falls[75:]])
    assert FlatLoss().check(history(loss=rests, tapes=[tape])) is not None


def test_a_loss_that_has_just_risen_is_given_time_to_come_down() -> None:
    wobble = 0.02 * np.sin(17.0 * np.arange(240))
    falls, leaps = np.linspace(0.67, 0.3, 110), np.full(130, 0.8)
    losses, tape = np.concatenate([falls, leaps]) + wobble, [classifier_tape(2)]
    assert FlatLoss().check(history(loss=losses[:140], tapes=tape)) is None
    assert FlatLoss().check(history(loss=losses[:140], tapes=tape, finished=True)) is not None
    assert FlatLoss().check(history(loss=losses, tapes=tape)) is not None


def test_a_validation_that_comes_down_clearly_is_given_time() -> None:
    noisy = 0.69 + 0.05 * np.sin(17.0 * np.arange(150))
    tape = [classifier_tape(2)]

    def run(*validation: float, finished: bool = False) -> History:
        signals = {VALIDATION_LOSS: list(validation)}
        return history(signals, loss=noisy, every=50, tapes=tape, finished=finished)

    assert FlatLoss().check(run(0.75, 0.68, 0.6)) is None
    assert FlatLoss().check(run(0.75, 0.68, 0.6, finished=True)) is not None
    assert FlatLoss().check(run(0.9, 0.8, 0.7)) is not None  # no better than guessing yet
    assert FlatLoss().check(run(0.6, 0.6, 0.6)) is not None
