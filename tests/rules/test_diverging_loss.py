from __future__ import annotations

import numpy as np
import pytest

from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.signal import VALIDATION_LOSS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.diverging_loss import DivergingLoss
from lightning_plateau.testing import history
from tests.rules.curves import HEALTHY, Curve, curve

RULE = DivergingLoss()
INF, NAN = float("inf"), float("nan")
DIVERGING: dict[str, Curve] = {
    "from the start": lambda t, n: 2.3 * np.exp(3 * t),
    "after it was good": lambda t, n: 2.3 - 2 * t + 9 * np.clip(t - 0.6, 0, 1),
    "a leap, and there it stays": lambda t, n: 1.0 + 4.0 * (t > 0.5) + n(0, 0.2, t.shape),
    "huge": lambda t, n: 1e10 * (1 + 3 * t + n(0, 0.1, t.shape)),
    "negative": lambda t, n: -3 + 6 * np.abs(t - 0.4) + n(0, 0.1, t.shape),
}


@pytest.mark.parametrize("steps", [30, 300, 3000])
@pytest.mark.parametrize("kind", DIVERGING)
def test_diverging(kind: str, steps: int) -> None:
    assert RULE.check(history(loss=curve(DIVERGING[kind], steps))) is not None


@pytest.mark.parametrize("steps", [30, 300, 3000])
@pytest.mark.parametrize("kind", HEALTHY)
def test_healthy(kind: str, steps: int) -> None:
    found = [RULE.check(history(loss=curve(HEALTHY[kind], steps, seed))) for seed in range(5)]
    assert not any(found)


@pytest.mark.parametrize(
    ("losses", "diverges"),
    [
        ([], False),
        ([2.3], False),
        ([NAN] * 50, False),
        ([2.3, 2.9, 2.1, 2.5], False),
        ([2.3, 30.0, 900.0, 5e4, INF, NAN], True),
        ([2.3, 2.2, 2.1, 9e3], True),
        ([1.0, 1e9, 2.3, 2.3, 2.3, 2.2], False),
        ([2.3] * 200, False),
        ([0.0] * 200, False),
    ],
)
def test_short_and_odd_runs(losses: list[float], diverges: bool) -> None:
    assert (RULE.check(history(loss=losses)) is not None) is diverges


def test_two_optimizers_are_not_judged() -> None:
    adversaries = Profile(optimizers=(OptimizerFact("Adam"), OptimizerFact("Adam")))
    assert RULE.check(history(loss=np.linspace(1, 9, 100), profile=adversaries)) is None


def test_leap_above_guessing_at_the_first_step() -> None:
    fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 10))
    sides = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,)))
    tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
    wild = np.random.default_rng(0).normal(9.0, 2.0, 200)
    wild[0] = 2.3
    assert RULE.check(history(loss=wild, tapes=[tape])) is not None
    assert RULE.check(history(loss=wild / 4, tapes=[tape])) is None


@pytest.mark.parametrize(
    ("last", "rows", "validation", "found"),
    [
        (6.0, 150, (), True),
        (6.0, 150, (12.0, 9.0, 7.0, 6.9), True),
        (6.0, 80, (), False),
        (2.0, 150, (), False),
    ],
    ids=["far above", "validation too", "soon after", "down already"],
)
def test_a_leap_above_guessing_has_its_time_to_come_down(
    last: float, rows: int, validation: tuple[float, ...], found: bool
) -> None:
    fc = Operation(0, "linear", "fc", (Operand("parameter", name="fc.weight"),), (8, 10))
    sides = (Operand("operation", 0, shape=(8, 10)), Operand("batch", 1, "1", (8,)))
    tape = Tape(0, (fc, Operation(1, "cross_entropy", "", sides)), root=1)
    losses = np.linspace(20, last, rows) + np.random.default_rng(0).normal(0, 0.3, rows)
    losses[0] = 2.3
    more = {VALIDATION_LOSS: np.interp(np.arange(rows), [0, 50, 100, 149], validation or [0] * 4)}
    run = history(more if validation else {}, loss=losses, tapes=[tape])
    assert (RULE.check(run) is not None) is found


@pytest.mark.parametrize("offset", [-0.2, 0.0, 0.05])
def test_estimates_about_zero_have_no_scale_but_their_noise(offset: float) -> None:
    t, random = np.arange(600) / 600, np.random.default_rng(0)
    surrogate = offset - 0.1 * np.sin(9 * t) + random.normal(0, 0.1, 600)
    assert RULE.check(history(loss=surrogate)) is None
    assert RULE.check(history(loss=surrogate + 4 * t**3)) is not None


@pytest.mark.parametrize(("now", "diverges"), [(0.55, False), (1.6, True)])
def test_a_task_that_grows_harder_does_not_spoil_validation(now: float, diverges: bool) -> None:
    losses = np.concatenate([np.linspace(2, 0.5, 100), np.linspace(0.5, 1.5, 100)])
    validation = {VALIDATION_LOSS: [2.0, 1.5, 1.0, 0.7, 0.5, 0.52, 0.53, 0.54, now, now]}
    run = history(validation, loss=losses, every=20)
    assert (RULE.check(run) is not None) is diverges


@pytest.mark.parametrize(("target", "said"), [("copy.weight", False), ("1", True)])
def test_a_loss_may_rise_with_targets_that_move(target: str, said: bool) -> None:
    net = Operation(0, "linear", "", (Operand("batch"), Operand("parameter", name="q.weight")))
    weight = Operand("parameter", name=target) if "." in target else Operand("batch", 1, target)
    made = Operation(1, "linear", "", (Operand("batch", 2, "2"), weight))
    sides = Operand("operation", 0), Operand("operation", 1)
    tape = Tape(0, (net, made, Operation(2, "mse_loss", "", sides)), root=2)
    losses = curve(DIVERGING["a leap, and there it stays"], 300)
    assert (RULE.check(history(loss=losses, tapes=[tape])) is not None) is said
    exploded = curve(DIVERGING["a leap, and there it stays"], 300) * np.linspace(1, 20, 300)
    assert RULE.check(history(loss=exploded, tapes=[tape])) is not None


def test_two_hard_batches_early_are_no_divergence() -> None:
    losses = np.geomspace(0.8, 0.08, 24)
    losses[-2:] = 0.3, 0.35
    assert RULE.check(history(loss=losses)) is None
    losses[-6:] = 0.4
    assert RULE.check(history(loss=losses)) is not None


def test_one_bad_stretch_that_is_over_is_no_divergence() -> None:
    """A shard of wrong labels, seen once: the level of the last tenth still holds most of it."""
    losses = curve(lambda t, n: 0.3 + n(0, 0.08, t.shape), 300)
    losses[270:286] = 2.0
    assert RULE.check(history(loss=losses)) is None
    assert RULE.check(history(loss=losses[:285])) is not None


@pytest.mark.parametrize("seed", range(5))
def test_a_scatter_that_grows_is_no_divergence(seed: int) -> None:
    """Losses of single samples scatter the more, the surer the network becomes."""
    generator = np.random.default_rng(seed)
    losses = 0.65 - 0.005 * np.arange(50.0) + generator.normal(0, 0.03, 50)
    losses[35:] = generator.exponential(0.45, 15)
    assert RULE.check(history(loss=losses)) is None
