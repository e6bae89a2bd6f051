from __future__ import annotations

from dataclasses import replace

import pytest

from lightning_plateau.core.history import History, Series
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import EXPERIMENT_TRAIN_AGAINST_EVAL
from lightning_plateau.rules.train_eval_gap import TrainEvalGap
from tests.rules.normalized import profile, run, statistics, tape

RULE = TrainEvalGap()
BAD = (2.6, 2.5, 2.7)
OFF = statistics(running=(0.0, 1.0), batch=(0.0, 100.0))


def tried(history: History, train: float, evaluation: float) -> History:
    made = Series(EXPERIMENT_TRAIN_AGAINST_EVAL, [100], [[train, evaluation]], ("train", "eval"))
    return replace(history, series={**history.series, made.signal.tag: made})


@pytest.mark.parametrize(
    ("sick", "least"),
    [
        (run(validation=BAD), 0.65),
        (run(validation=(1.9, 1.8, 1.7)), 0.65),
        (run(measured=OFF, validation=BAD), 0.85),
        (tried(run(validation=BAD), 0.5, 2.6), 0.95),
        (run(tape(norm=False), validation=BAD), 0.6),
        (tried(run(validation=BAD), 0.5, 0.5), 0.6),
    ],
    ids=["batch norm", "better than guessing", "off", "confirmed", "other data", "same in eval"],
)
def test_gap(sick: History, least: float) -> None:
    found = RULE.check(sick)
    assert found is not None
    assert found.confidence == least


@pytest.mark.parametrize(
    "well",
    [
        run(),
        run(validation=(2.6, 0.6, 2.7)),
        run(validation=BAD, training=[2.3] * 120),
        run(tape(norm=False), validation=(1.9, 1.8, 1.7)),
        run(tape(norm=False), facts=profile(shuffled=False), validation=BAD),
        run(validation=(float("nan"), 0.6, 0.5)),
        History(),
    ],
    ids=[
        "alike", "overfitting later", "nothing learned", "other data, some use", "not shuffled",
        "finite again", "empty",
    ],
)  # fmt: skip
def test_silent(well: History) -> None:
    assert RULE.check(replace(well, series=_without_first(well))) is None


def _without_first(history: History) -> dict[str, Series]:
    """Leave out the validation before the first step."""
    series = dict(history.series)
    if "loss/validation" in series:
        series["loss/validation"] = series["loss/validation"].since(1)
    return series


def test_too_few_validations_and_steps() -> None:
    seen = run(validation=BAD)
    early = {tag: series.until(60) for tag, series in seen.series.items()}
    assert RULE.check(replace(seen, series=early, step=60)) is None
    assert RULE.check(History(profile=Profile())) is None


def test_data_of_another_scale() -> None:
    apart = run(tape(norm=False), validation=(20.0, 30.0, 40.0), training=[2.4] * 120)
    found = RULE.check(replace(apart, series=_without_first(apart)))
    assert found is not None
    assert "the first validation loss is 20" in found.message
    close = run(tape(norm=False), validation=(20.0, 30.0, 2.0), training=[2.4] * 120)
    assert RULE.check(replace(close, series=_without_first(close))) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_validation_that_is_not_finite(value: float) -> None:
    found = RULE.check(run(validation=(2.0, value, value)))
    assert found is not None
    assert found.message.startswith(f"the validation loss is {value} since step")
    assert found.remedies == (), "statistics of batch norm need not be the reason"


def test_validation_is_not_finite_since_training_is_not() -> None:
    broken = run(validation=(2.0, float("nan")), training=[2.3] * 60 + [float("nan")] * 60)
    assert RULE.check(broken) is None
