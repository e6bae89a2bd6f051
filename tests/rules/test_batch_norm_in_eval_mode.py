from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.rules.batch_norm_in_eval_mode import BatchNormInEvalMode
from tests.rules.normalized import profile, run, statistics, tape
from tests.rules.taped import labels, points, taped

RULE = BatchNormInEvalMode()
EVAL = tape(training=False)
FRESH = statistics(running=(0.0, 1.0), batch=(0.0, 25.0))
MOVED = statistics(running=(0.2, 2.0), batch=(0.0, 25.0))


def test_statistics_that_were_never_updated_are_certain() -> None:
    found = RULE.check(run(EVAL, FRESH))
    assert found is not None
    assert found.certain
    assert "5-fold off" in found.message


def test_a_module_in_evaluation_mode_is_another_fault() -> None:
    found = RULE.check(run(EVAL, FRESH, profile(training=False)))
    assert found is not None
    assert not found.certain


def test_statistics_that_no_longer_fit_are_likely() -> None:
    found = RULE.check(run(EVAL, MOVED))
    assert found is not None
    assert found.certainty == "likely"


def test_the_default_of_the_functional_form_is_seen_on_the_tape() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.register_buffer("running_mean", torch.zeros(3))
            self.register_buffer("running_var", torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return F.batch_norm(self.fc(x), self.running_mean, self.running_var)

    net = Functional()
    seen = taped(lambda net, x, y: F.cross_entropy(net(x), y), net, points(), labels())
    own = {tag: series for tag, series in run(EVAL, FRESH).series.items() if "normalization" in tag}
    renamed = {tag: replace(series, labels=("batch_norm",)) for tag, series in own.items()}
    found = RULE.check(replace(seen, series=renamed))
    assert found is not None


@pytest.mark.parametrize(
    "well",
    [
        run(tape(), FRESH),
        run(EVAL, statistics(running=(0.2, 2.0), batch=(0.1, 3.0))),
        run(EVAL, FRESH, profile(trainable=False)),
        run(tape(training=False, learns=False), FRESH),
        replace(run(EVAL, FRESH), series={}),
        History(),
    ],
    ids=["training", "near", "frozen scale", "nothing trains", "not measured", "empty"],
)
def test_silent(well: History) -> None:
    assert RULE.check(well) is None
