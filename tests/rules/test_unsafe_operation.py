from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.signal import (
    DATA_NON_FINITE,
    EXPERIMENT_REPLAY_BATCH,
    GRADIENT_NORM,
    LEARNING_RATES,
    PARAMETER_NORMS,
)
from lightning_plateau.rules.unsafe_operation import UnsafeOperation
from lightning_plateau.testing import history
from tests.rules.taped import Loss, history_of, points, taped

RULE = UnsafeOperation()
NAN = math.nan


def broken(loss: Loss, *, value: float = 1.0, gradient: float = NAN, steps: int = 1) -> History:
    """Return the history of a run that broke on its last step, its tape being of the first."""
    x = points()
    seen = taped(loss, nn.Linear(4, 4), x, torch.zeros(16, 4))
    norms = {GRADIENT_NORM: [1.0] * (steps - 1) + [gradient]}
    made = history(norms, loss=[1.0] * (steps - 1) + [value], tapes=seen.tapes)
    return replace(made, profile=seen.profile)


def rectified(net: nn.Module, x: Tensor) -> Tensor:
    return torch.relu(net(x))


UNSAFE: dict[str, Loss] = {
    "root of zero": lambda net, x, y: rectified(net, x).sqrt().mean(),
    "power of zero": lambda net, x, y: (rectified(net, x) ** 0.5).mean(),
    "log of zero": lambda net, x, y: torch.log(rectified(net, x)).mean(),
    "log of negatives": lambda net, x, y: torch.log(net(x)).mean(),
    "division by zero": lambda net, x, y: (net(x) / rectified(net, x)).mean(),
    "reciprocal": lambda net, x, y: (1 / rectified(net, x)).mean(),
    "root of a variance": lambda net, x, y: (net(x) * 0).var(0).sqrt().mean(),
    "arc cosine of one": lambda net, x, y: torch.acos(net(x).clamp(-1, 1) * 0 + 1).mean(),
    "the branch not chosen": lambda net, x, y: torch.where(
        net(x) > 0, net(x).sqrt(), torch.zeros(())
    ).mean(),
    "exponential": lambda net, x, y: torch.exp(1000 * net(x)).mean(),
}
SAFE: dict[str, Loss] = {
    "epsilon inside": lambda net, x, y: (rectified(net, x) + 1e-8).sqrt().mean(),
    "clamped log": lambda net, x, y: torch.log(rectified(net, x).clamp_min(1e-8)).mean(),
    "softmax": lambda net, x, y: torch.log_softmax(net(x), 1).mean(),
    "norm at zero": lambda net, x, y: torch.norm(net(x) * 0, dim=1).mean(),
    "square": lambda net, x, y: (net(x) ** 2).mean(),
    "scaled": lambda net, x, y: (net(x) / math.sqrt(4)).mean(),
    "without gradient": lambda net, x, y: (net(x) + (x * 0).sqrt()).mean(),
    "only logged": lambda net, x, y: (net(x), rectified(net, x).sqrt())[0].mean(),
    "exponential": lambda net, x, y: torch.exp(net(x)).mean(),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_at_the_edge(name: str) -> None:
    found = RULE.check(broken(UNSAFE[name]))
    assert found is not None
    assert found.certainty != "possible"
    assert found.fix
    assert "LP202" in found.explains


@pytest.mark.parametrize("name", SAFE)
def test_far_from_it(name: str) -> None:
    assert RULE.check(broken(SAFE[name])) is None


@pytest.mark.parametrize("name", UNSAFE)
def test_silent_while_training_is_finite(name: str) -> None:
    assert RULE.check(broken(UNSAFE[name], gradient=1.0)) is None


def test_a_non_finite_value_at_that_step_makes_it_certain() -> None:
    log = broken(UNSAFE["log of zero"], value=-math.inf)
    root = broken(UNSAFE["root of zero"])
    assert [f.confidence for f in (RULE.check(log), RULE.check(root)) if f] == [1.0, 0.95]


def test_an_earlier_look_is_a_suspicion() -> None:
    found = RULE.check(broken(UNSAFE["root of zero"], steps=9))
    assert found is not None
    assert not found.certain
    assert found.step == 8


def test_later_tapes_show_only_what_is_broken_already() -> None:
    run = broken(UNSAFE["root of zero"])
    [tape] = run.tapes
    assert RULE.check(replace(run, tapes=(replace(tape, step=4),))) is None


def test_a_step_that_was_skipped_leaves_its_tape_behind() -> None:
    run = broken(UNSAFE["root of zero"], steps=2)
    [tape] = run.tapes
    made = history({GRADIENT_NORM: [1.0] * 10}, loss=[1.0] * 10, tapes=[replace(tape, step=4)])
    assert RULE.check(made) is None
    found = RULE.check(made.without([4]))
    assert found is not None
    assert found.step == 4


def test_names_the_layer() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x).sqrt()

    net = nn.Sequential(nn.Linear(4, 4), Root())
    seen = taped(lambda net, x, y: net(x).mean(), net, points(), torch.zeros(16))
    run = history({GRADIENT_NORM: [NAN]}, loss=[1.0], tapes=history_of(seen.tapes[0], net).tapes)
    found = RULE.check(run)
    assert found is not None
    assert found.where == "1 (sqrt)"


@pytest.mark.parametrize(
    ("place", "norm", "speaks"),
    [
        ("backward: SqrtBackward0", 2.0, True),
        ("backward: SqrtBackward0", NAN, False),
        ("forward: net (log)", 2.0, False),
        ("none", 2.0, False),
    ],
)
def test_a_replay_tells_where_no_tape_does(place: str, norm: float, speaks: bool) -> None:
    tried = {EXPERIMENT_REPLAY_BATCH: {place: [1.0]}, PARAMETER_NORMS: {"w": [norm]}}
    found = RULE.check(history(tried, loss=[1.0, 1.0]))
    assert (found is not None) is speaks
    assert found is None or found.where == "SqrtBackward0"


def by_hand(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    p = torch.sigmoid(net(x))
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def softened(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    p = torch.sigmoid(net(x)).clamp(1e-6, 1 - 1e-6)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def suddenly(loss: Loss, last: float = 1.0) -> History:
    """Return the history of a run that broke at step 8, with a tape of the first step alone."""
    seen = taped(loss, nn.Linear(4, 4), points(), torch.zeros(16, 4))
    signals = {
        GRADIENT_NORM: [1.0] * 7 + [last, NAN],
        LEARNING_RATES: {"0": [0.1] * 9},
        DATA_NON_FINITE: {"0": [0.0] * 9},
    }
    made = history(signals, loss=[0.7] * 8 + [NAN], tapes=seen.tapes)
    return replace(made, profile=seen.profile)


def test_a_logarithm_of_what_rounds_to_zero_is_likely_where_all_was_sound() -> None:
    found = RULE.check(suddenly(by_hand))
    assert found is not None
    assert found.certainty == "likely"
    assert "sigmoid" in found.message
    assert RULE.check(suddenly(softened)) is None
    assert RULE.check(suddenly(by_hand, last=1000.0)) is None
