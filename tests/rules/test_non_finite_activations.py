from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import (
    DATA_NON_FINITE,
    EXPERIMENT_REPLAY_BATCH,
    GRADIENT_NORM,
    INITIAL_NORMS,
    LEARNING_RATES,
    PARAMETER_NORMS,
)
from lightning_plateau.rules.non_finite_activations import NonFiniteActivations
from lightning_plateau.testing import history
from tests.rules.taped import Loss, points, taped

RULE = NonFiniteActivations()
NAN = math.nan


def run(loss: Loss, x: Tensor | None = None, series: dict | None = None) -> History:
    seen = taped(loss, nn.Linear(4, 4), points() if x is None else x, torch.zeros(16).long())
    made = history(series or {}, loss=[NAN], tapes=seen.tapes)
    return replace(made, profile=seen.profile)


def masked(net: nn.Module, x: Tensor, rows: int) -> Tensor:
    hidden = torch.zeros(16, 4, dtype=torch.bool)
    hidden[:, 2:] = True
    hidden[:rows] = True
    return net(x).masked_fill(hidden, -math.inf).softmax(1)


MADE: dict[str, tuple[Loss, str, str]] = {
    "log": (lambda net, x, y: torch.log(torch.relu(net(x))).mean(), "log", "-inf"),
    "root": (lambda net, x, y: net(x).sqrt().mean(), "sqrt", "NaN"),
    "overflow": (lambda net, x, y: torch.exp(1e4 * net(x)).mean(), "exp", "inf"),
    "ignored": (lambda net, x, y: F.cross_entropy(net(x), y - 100), "cross_entropy", "NaN"),
    "masked rows": (lambda net, x, y: masked(net, x, 2).mean(), "softmax", "-inf throughout"),
    "empty": (lambda net, x, y: net(x)[x[:, 0] > 99].mean(), "mean", "NaN"),
    "spread of one": (lambda net, x, y: net(x)[:1].std(0).mean(), "std", "NaN"),
}


@pytest.mark.parametrize("name", MADE)
def test_names_the_operation(name: str) -> None:
    loss, operation, words = MADE[name]
    found = RULE.check(run(loss))
    assert found is not None
    assert found.where.endswith(operation)
    assert words in found.message
    assert found.confidence >= 0.95


def test_a_mask_is_no_fault() -> None:
    assert RULE.check(run(lambda net, x, y: masked(net, x, 0).mean())) is None
    later = run(lambda net, x, y: (masked(net, x, 0) - 1).log().mean())
    found = RULE.check(later)
    assert found is not None
    assert found.where == "log"


def test_values_from_the_batch_are_not_made_here() -> None:
    x = points()
    x[0, 0] = NAN
    dirty = run(lambda net, x, y: net(x).mean(), x, {DATA_NON_FINITE: {"0": [1.0], "1": [0.0]}})
    assert RULE.check(dirty) is None
    elsewhere = dirty.without([0])  # the step was skipped: what it was given is not known
    known = history({DATA_NON_FINITE: {"0": [0.0] * 3}})[DATA_NON_FINITE].since(1)
    series = {**elsewhere.series, DATA_NON_FINITE.tag: known}
    assert RULE.check(replace(elsewhere, series=series)) is None


def test_a_parameter_that_was_never_initialized() -> None:
    norms = {INITIAL_NORMS: {"weight": [NAN], "bias": [1.0]}}
    found = RULE.check(run(lambda net, x, y: net(x * math.inf).abs().mean(), None, norms))
    assert found is not None
    seen = run(lambda net, x, y: (net(x) / 0).mean(), None, norms)
    [tape] = seen.tapes
    first = replace(tape.operations[0], statistics={"non_finite": 1.0})
    broken = replace(seen, tapes=(replace(tape, operations=(first, *tape.operations[1:])),))
    found = RULE.check(broken)
    assert found is not None
    assert (found.where, found.confidence) == ("weight", 1.0)


@pytest.mark.parametrize(("norm", "speaks"), [(NAN, False), (2.0, True)])
def test_after_a_step_that_broke_the_weights_nothing_is_known(norm: float, speaks: bool) -> None:
    seen = run(lambda net, x, y: (net(x) * 1e38 * 1e38).mean())
    [tape] = seen.tapes
    first = replace(tape.operations[0], statistics={"non_finite": 1.0})
    tape = replace(tape, step=5, operations=(first, *tape.operations[1:]))
    norms = {PARAMETER_NORMS: {"weight": [1.0, norm]}}
    later = history(norms, loss=[1.0, NAN, 1.0, 1.0, 1.0, NAN], every=2, tapes=[tape])
    assert (RULE.check(later) is not None) is speaks


def test_silent_where_the_loss_is_finite() -> None:
    unused = run(lambda net, x, y: (net(x), torch.log(x * 0))[0].mean())
    assert RULE.check(unused) is None


@pytest.mark.parametrize(
    ("place", "norm", "speaks"),
    [
        ("forward: net (log)", 2.0, True),
        ("forward: net (log)", NAN, False),
        ("backward: SqrtBackward0", 2.0, False),
        ("none", 2.0, False),
    ],
)
def test_a_replay_tells_where_no_tape_does(place: str, norm: float, speaks: bool) -> None:
    tried = {EXPERIMENT_REPLAY_BATCH: {place: [1.0]}, PARAMETER_NORMS: {"w": [norm]}}
    found = RULE.check(history(tried, loss=[1.0, 1.0]))
    assert (found is not None) is speaks
    assert found is None or found.where == "net (log)"


ODD = {
    "nothing odd": ({}, True),
    "the gradient had grown": ({GRADIENT_NORM: [0.3] * 7 + [9.0] + [NAN] * 4}, False),
    "the rate had grown": ({LEARNING_RATES: {"0": [1e-3] * 7 + [9.0] + [1e-3] * 4}}, False),
    "the data were not finite": ({DATA_NON_FINITE: {"0": [0.0] * 8 + [1.0] * 4}}, False),
    "the data are not known": ({DATA_NON_FINITE: {}}, False),
}


@pytest.mark.parametrize("oddity", ODD)
def test_a_batch_between_two_tapes(oddity: str) -> None:
    changed, told = ODD[oddity]
    series = {
        GRADIENT_NORM: [0.3, 0.2] * 4 + [NAN] * 4,
        LEARNING_RATES: {"0": [1e-3] * 12},
        DATA_NON_FINITE: {"0": [0.0] * 12},
        **changed,
    }
    found = RULE.check(history(series, loss=[0.7] * 8 + [NAN] * 4))
    assert (found is not None) is told
    assert found is None or found.message.startswith("some operation makes NaN or infinity")


def test_a_loss_that_had_grown_before_it_broke() -> None:
    series = {
        GRADIENT_NORM: [0.3] * 8 + [NAN] * 4,
        LEARNING_RATES: {"0": [1e-3] * 12},
        DATA_NON_FINITE: {"0": [0.0] * 12},
    }
    assert RULE.check(history(series, loss=[0.7] * 7 + [70.0] + [NAN] * 4)) is None
