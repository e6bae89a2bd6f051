"""Close looks take their share of the time, and no more."""

from __future__ import annotations

import pytest

from lightning_plateau.economy import CAP, Economy


class Run:
    """A run of steps of one length, whose looks are planned every 50 steps."""

    def __init__(self, step_s: float, look_s: float) -> None:
        self.now_s = 0.0
        self.looks_s = 0.0
        self.looks = 0
        self.economy = Economy(clock=lambda: self.now_s)
        self._step_s, self._look_s = step_s, look_s
        for _ in range(500):  # nobody asks so early
            self.step(look=False)
        self.looks, self.looks_s = 0, 0.0

    def go(self, steps: int) -> None:
        for step in range(steps):
            self.step(look=step % 50 == 0 and self.economy.affordable())

    def step(self, *, look: bool) -> None:
        self.economy.begin_step()
        self.now_s += self._step_s + (self._look_s if look else 0.0)
        self.economy.end_step(closely=look)
        self.looks_s += self._look_s if look else 0.0
        self.looks += look


@pytest.mark.parametrize("step_s", [0.0001, 0.0006, 0.01])
def test_looks_at_short_steps_are_spread(step_s: float) -> None:
    run = Run(step_s, look_s=0.02)
    run.go(100_000)
    share = run.looks_s / run.now_s
    assert share <= CAP + 0.02 / run.now_s
    assert share > 0.5 * min(CAP, 0.02 / (50 * step_s))


def test_all_looks_at_long_steps_are_affordable() -> None:
    run = Run(0.1, look_s=0.02)
    run.go(5000)
    assert run.looks == 100


def test_steps_that_wait_for_something_else_do_not_count() -> None:
    run = Run(0.001, look_s=0.0)
    run.go(1000)
    run.now_s += 60.0  # a validation
    run.go(1000)
    assert run.looks == 40


def test_it_keeps_no_more_over_a_million_steps() -> None:
    run = Run(0.001, look_s=0.001)
    run.go(200_000)
    assert len(run.economy._ordinary) <= 64
