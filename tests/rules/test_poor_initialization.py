from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.finding import Severity
from lightning_plateau.core.history import History, Series
from lightning_plateau.core.signal import INITIAL_NORMS, LOSS, VALIDATION_LOSS
from lightning_plateau.rules.poor_initialization import PoorInitialization
from lightning_plateau.testing import history
from tests.rules.taped import labels, points, taped

RULE = PoorInitialization()


def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y)


def perceptron(
    std: float | None, hidden: int = 2, width: int = 64, norm: bool = False
) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for depth in range(hidden):
        layers.append(nn.Linear(width if depth else 4, width))
        layers += [nn.BatchNorm1d(width)] * norm + [nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(width, 3))
    for layer in net:
        if isinstance(layer, nn.Linear) and std is not None:
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    return net


class Residual(nn.Module):
    """Branches that start small beside a way around them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(4, 16), nn.Linear(16, 3)
        self.branches = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(torch.relu(x))
        out: Tensor = self.head(x)
        return out


class Sine(nn.Module):
    """Weights that are small because what they make is multiplied by 30."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 64), nn.Linear(64, 64), nn.Linear(64, 64)])
        self.head = nn.Linear(64, 3)
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sin(30.0 * layer(x))
        out: Tensor = self.head(x)
        return out


class Reader(nn.Module):
    """A recurrent network that reads the four features of a point one after the other, thrice."""

    def __init__(self, kind: type[nn.RNNBase], std: float | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = kind(1, 32, batch_first=True), nn.Linear(32, 3)
        if std is not None:
            nn.init.normal_(self.body.weight_hh_l0, std=std)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.repeat(1, 3)[..., None])[0][:, -1])


def run(net: nn.Module, last: float = 1.1, step: int = 0) -> History:
    seen = taped(loss, net, points(), labels())
    norms = {name: [float(p.detach().norm())] for name, p in net.named_parameters()}
    made = history({INITIAL_NORMS: norms}, loss=np.linspace(1.1, last, 60), profile=seen.profile)
    return replace(made, tapes=(replace(seen.tapes[0], step=step),))


@pytest.mark.parametrize(
    ("net", "word"),
    [
        (perceptron(1.0), "too large"),
        (perceptron(0.01), "too small"),
        (perceptron(0.03, hidden=8), "shrink"),
        (perceptron(0.35, hidden=14), "grow"),
        (Reader(nn.RNN, 0.4), "each step scales the state by 2.31, and the sequence by 1e+04"),
        (Reader(nn.RNN, 1.0), "too large"),
        (Reader(nn.GRU, 1.0), "too large"),
        (Reader(nn.LSTM, 1.0), "too large"),
    ],
)
def test_off_scale(net: nn.Module, word: str) -> None:
    found = RULE.check(run(net))
    assert found is not None
    assert found.certainty == "likely"
    assert word in found.message


@pytest.mark.parametrize(
    "net",
    [
        perceptron(None),
        perceptron(None, hidden=6),
        perceptron(0.17, hidden=6),
        perceptron(1.0, norm=True),
        Residual(),
        Sine(),
        nn.Linear(4, 3),
        Reader(nn.RNN, None),
        Reader(nn.RNN, 0.2),
        Reader(nn.LSTM, 0.4),
    ],
    ids=[
        "torch's own",
        "deep",
        "He",
        "normalized",
        "residual branches",
        "sine",
        "one layer",
        "recurrence",
        "recurrence that grows a little",
        "gates that are open or shut",
    ],
)
def test_sound(net: nn.Module) -> None:
    assert RULE.check(run(net)) is None


def test_a_run_that_learns_is_not_judged() -> None:
    assert RULE.check(run(perceptron(1.0), last=0.2)) is None
    first = run(perceptron(1.0))
    short = replace(first, step=20)
    assert RULE.check(short) is None


def learned(validation: float, first: float = 9.0) -> History:
    """Return a run that began far above guessing (1.1) and came down to 0.05."""
    seen = run(perceptron(1.0))
    made = history({VALIDATION_LOSS: [validation] * 3}, loss=np.geomspace(first, 0.05, 60), step=60)
    return replace(seen, series={**seen.series, **made.series})


def test_large_weights_that_were_learned_by_heart_are_a_fault_and_overcome_a_remark() -> None:
    by_heart, overcome = RULE.check(learned(0.9)), RULE.check(learned(0.2))
    assert by_heart is not None
    assert by_heart.severity is Severity.ERROR
    assert by_heart.message.endswith("the first loss was 9, where guessing gives 1.099")
    assert overcome is not None
    assert overcome.severity is Severity.INFO
    assert RULE.check(learned(0.9, first=1.2)) is None


def test_a_recurrence_that_explodes_is_a_fault_until_validation_has_overcome_it() -> None:
    seen = run(Reader(nn.RNN, 0.4))
    for validation, sick in ((0.9, True), (0.2, False)):
        series = {VALIDATION_LOSS: [validation] * 3}
        made = history(series, loss=np.geomspace(1.1, 0.05, 60), step=60)
        found = RULE.check(replace(seen, series={**seen.series, **made.series}))
        assert (found is not None) is sick


@pytest.mark.parametrize("keep", [lambda _: (), lambda operands: operands[:1]])
def test_a_recurrence_of_which_little_is_known(keep: Any) -> None:
    seen = run(Reader(nn.RNN, 0.4))
    calls = [replace(call, operands=keep(call.operands)) for call in seen.tapes[0]]
    assert (
        RULE.check(replace(seen, tapes=(replace(seen.tapes[0], operations=tuple(calls)),))) is None
    )


def test_a_run_that_was_resumed_is_not_judged() -> None:
    assert RULE.check(run(perceptron(1.0), step=100)) is None


def test_a_start_that_is_not_finite() -> None:
    broken = run(perceptron(1.0))
    series = {**broken.series, LOSS.tag: Series(LOSS, range(60), [float("nan")] * 60)}
    assert RULE.check(replace(broken, series=series)) is None
