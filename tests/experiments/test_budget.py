"""The budget that ranks share: each asks the others at the same places, whatever went before."""

from __future__ import annotations

from contextlib import suppress

import pytest

from lightning_plateau.experiments.budget import Budget, BudgetExceededError


def test_a_rank_that_failed_early_asks_with_the_others_again_in_the_next_experiment() -> None:
    asked: dict[str, list[int]] = {"early": [], "late": []}
    for name, first in (("early", 2), ("late", 4)):
        steps = []
        budget = Budget(agree=lambda late, name=name, steps=steps: asked[name].append(len(steps)))
        budget.begin()
        for _ in range(first):  # where the experiment fails
            budget.spend()
        budget.end()
        budget.begin()
        for step in range(10):
            steps.append(step)
            budget.spend()
    assert asked["early"] == asked["late"] == [5, 10]


def test_what_another_rank_gives_up_ends_here_too() -> None:
    budget = Budget(agree=lambda late: True)
    with suppress(BudgetExceededError):
        for _ in range(4):
            budget.spend()
    with pytest.raises(BudgetExceededError, match="another rank"):
        budget.spend()
    assert budget.stopped
