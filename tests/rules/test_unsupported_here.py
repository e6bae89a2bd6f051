from __future__ import annotations

import pytest

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import ParameterFact, Profile
from lightning_plateau.rules.unsupported_here import UnsupportedHere
from lightning_plateau.testing import history

RULE = UnsupportedHere()
PROFILE = Profile(parameters=(ParameterFact("fc.weight", "fc", (1, 4)),))


def test_steps_without_a_loss_are_remarked_on() -> None:
    found = RULE.check(history(profile=PROFILE, step=20))
    assert found is not None
    assert found.severity is Severity.INFO


@pytest.mark.parametrize(
    "other",
    [
        history(profile=PROFILE, step=19),
        history(profile=PROFILE, loss=[1.0] * 50),
        history(step=50),
        History(),
    ],
    ids=["too early", "a loss is seen", "nothing is known", "empty"],
)
def test_silent(other: History) -> None:
    assert RULE.check(other) is None
