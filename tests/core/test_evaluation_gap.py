from __future__ import annotations

from dataclasses import replace

import pytest

from lightning_plateau.core.evaluation_gap import evaluation_gap
from lightning_plateau.core.signal import FINGERPRINTED, REPEATED
from lightning_plateau.testing import history
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


@pytest.mark.parametrize(("repeated", "known"), [(990.0, False), (370.0, True)])
def test_an_epoch_that_draws_few_samples_again_and_again_tells_nothing(
    repeated: float, *, known: bool
) -> None:
    drawn = history({FINGERPRINTED: [1000.0], REPEATED: [repeated]}).series
    plain = run(validation=(GUESS,) * 3)
    assert (evaluation_gap(replace(plain, series={**plain.series, **drawn})) is not None) is known


@pytest.mark.parametrize(
    "other",
    [run(training=[2.3] * 120), run(training=[0.5] * 4), run(validation=(float("nan"),) * 3)],
    ids=["nothing learned", "too short", "not finite"],
)
def test_unknown(other: object) -> None:
    assert evaluation_gap(other) is None  # type: ignore[arg-type]
