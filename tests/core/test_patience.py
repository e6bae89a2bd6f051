from __future__ import annotations

import pytest

from lightning_plateau.core.history import History
from lightning_plateau.core.patience import patience
from lightning_plateau.core.profile import Profile


@pytest.mark.parametrize(
    ("planned", "steps"), [(None, 0), (0, 0), (30, 5), (1200, 200), (5000, 500), (10**9, 500)]
)
def test_a_run_is_given_a_sixth_of_its_plan(planned: int | None, steps: int) -> None:
    assert patience(History(profile=Profile(planned_steps=planned))) == steps


def test_a_run_that_is_over_is_given_nothing() -> None:
    assert patience(History(profile=Profile(planned_steps=1000), finished=True)) == 0
