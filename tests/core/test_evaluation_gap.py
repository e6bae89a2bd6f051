from __future__ import annotations

import pytest

from lightning_plateau.core.evaluation_gap import evaluation_gap
from tests.rules.normalized import run

GUESS = 2.302585092994046


def test_nothing_is_lacking_where_validation_is_as_good() -> None:
    gap = evaluation_gap(run(validation=(0.5, 0.5, 0.5)))
    assert gap is not None
    assert (gap.training, gap.share) == (0.5, 0.0)


def test_all_is_lacking_where_validation_guesses() -> None:
    gap = evaluation_gap(run(validation=(GUESS,) * 3))
    assert gap is not None
    assert gap.share == pytest.approx(1.0)


@pytest.mark.parametrize(
    "other",
    [run(training=[2.3] * 120), run(training=[0.5] * 4), run(validation=(float("nan"),) * 3)],
    ids=["nothing learned", "too short", "not finite"],
)
def test_unknown(other: object) -> None:
    assert evaluation_gap(other) is None  # type: ignore[arg-type]
