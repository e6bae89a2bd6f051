from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lightning_plateau import PlateauCallback
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.signal import VALIDATION_LOSS
from lightning_plateau.core.tape import Operand, Operation, Tape
from lightning_plateau.rules.slow_convergence import SlowConvergence
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer
from tests.rules.curves import HEALTHY, Floats, curve

RULE = SlowConvergence()
STEPS = np.arange(600.0) / 600


def run(
    losses: Floats, *, planned: int | None = 1000, finished: bool = False, classes: int = 10
) -> History:
    made = Operation(0, "linear", operands=(Operand("parameter", name="w"),))
    sides = (Operand("operation", 0, shape=(8, classes)), Operand("batch", 1, "1", (8,)))
    tape = Tape(0, (made, Operation(1, "cross_entropy", operands=sides)), root=1)
    noise = np.random.default_rng(0).normal(0, 0.03, len(losses))
    profile = Profile(planned_steps=planned)
    return history(loss=losses + noise, tapes=[tape], profile=profile, finished=finished)


SLOW = 2.3 - 0.3 * STEPS


@pytest.mark.parametrize(
    ("made", "speaks"),
    [
        (run(SLOW), True),
        (run(SLOW, planned=600, finished=True), True),
        (run(SLOW, planned=None, finished=True), True),
        (run(SLOW, planned=None), False),
        (run(SLOW, planned=5000), False),
        (run(SLOW[:90], finished=True), False),
        (run(2.3 - 0.6 * STEPS, planned=1500), False),
        (run(2.3 - 1.2 * STEPS, finished=True), False),
        (run(np.full(600, 2.3), finished=True), False),
        (run(1.7 + 0.6 * np.exp(-8 * STEPS), finished=True), False),
        (run(2.3 + 0.3 * STEPS, finished=True), False),
    ],
)
def test_pace(made: History, speaks: bool) -> None:
    assert (RULE.check(made) is not None) is speaks


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_curves(name: str) -> None:
    made = curve(HEALTHY[name], 600)
    assert RULE.check(run(made, planned=600, finished=True)) is None


def test_silent_where_guessing_is_unknown_or_there_are_several_optimizers() -> None:
    slow = run(SLOW)
    assert RULE.check(replace(slow, tapes=())) is None
    several = replace(slow.profile, optimizers=(OptimizerFact("Adam"),) * 2)
    assert RULE.check(replace(slow, profile=several)) is None


class Paced(Digits):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


@pytest.mark.parametrize(("rate", "expected"), [(3e-3, True), (0.1, False)])
def test_training(rate: float, expected: bool, tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path))
    trainer(callback, max_epochs=16).fit(Paced(lr=rate), loader())
    assert ("LP405" in [finding.code for finding in callback.findings]) is expected


@pytest.mark.parametrize(
    ("validation", "speaks"),
    [([2.3, 2.25, 2.2, 2.15, 2.1, 2.05], True), ([2.3, 2.0, 1.85, 1.8, 1.79, 1.78], False)],
)
def test_where_validation_has_settled_training_is_not_slow(
    validation: list[float], speaks: bool
) -> None:
    made = run(SLOW, planned=600, finished=True)
    series = Series(VALIDATION_LOSS, np.arange(99, 600, 100), np.array(validation))
    beside = replace(made, series={**made.series, VALIDATION_LOSS.tag: series})
    assert (RULE.check(beside) is not None) is speaks


def test_what_may_be_mostly_noise_is_given_until_the_end() -> None:
    falls = 0.72 - 0.12 * STEPS
    assert RULE.check(run(falls, classes=2)) is None
    assert RULE.check(run(falls, classes=2, planned=600, finished=True)) is not None
    assert RULE.check(run(0.72 - 0.06 * STEPS, classes=2)) is not None
