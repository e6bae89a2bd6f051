from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import OptimizerFact
from lightning_plateau.core.signal import ACTIVATION_DEAD
from lightning_plateau.rules.summed_loss import SummedLoss
from lightning_plateau.testing import history
from tests.rules.taped import Loss, labels, points, taped

RULE = SummedLoss()


def target(y: Tensor) -> Tensor:
    return F.one_hot(y, 3).float()


def run(loss: Loss, optimizer: str = "SGD", samples: int = 16) -> History:
    made = taped(loss, nn.Linear(4, 3), points(samples), labels(samples))
    return replace(made, profile=replace(made.profile, optimizers=(OptimizerFact(optimizer),)))


FAULTS: dict[str, tuple[Loss, int]] = {
    "reduction": (lambda net, x, y: F.cross_entropy(net(x), y, reduction="sum"), 16),
    "module": (lambda net, x, y: nn.MSELoss(reduction="sum")(net(x), target(y)), 16),
    "by hand": (lambda net, x, y: ((net(x) - target(y)) ** 2).sum(), 48),
    "torch.sum of a loss's terms": (
        lambda net, x, y: torch.sum(F.cross_entropy(net(x), y, reduction="none")),
        16,
    ),
    "with a small penalty": (
        lambda net, x, y: (
            F.cross_entropy(net(x), y, reduction="sum")
            + 1e-4 * sum(p.square().sum() for p in net.parameters())
        ),
        16,
    ),
}
HEALTHY: dict[str, Loss] = {
    "mean": lambda net, x, y: F.cross_entropy(net(x), y),
    "divided by the samples": lambda net, x, y: (
        F.cross_entropy(net(x), y, reduction="sum") / len(x)
    ),
    "times a weight": lambda net, x, y: F.cross_entropy(net(x), y, reduction="sum") * 0.01,
    "sum over features, mean over samples": lambda net, x, y: (
        ((net(x) - target(y)) ** 2).sum(1).mean()
    ),
    "a penalty that is a sum": lambda net, x, y: (
        F.cross_entropy(net(x), y) + 1e-3 * sum(p.square().sum() for p in net.parameters())
    ),
    "a masked mean": lambda net, x, y: (
        (F.cross_entropy(net(x), y, reduction="none") * (y > 0)).sum() / (y > 0).sum()
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_found_with_the_number_of_terms(kind: str) -> None:
    loss, terms = FAULTS[kind]
    found = RULE.check(run(loss))
    assert found is not None
    assert f"{terms} terms" in found.message
    assert found.certainty == "likely"


@pytest.mark.parametrize(
    ("dead", "killed"), [([0.1, 1.0, 1.0, 1.0], True), ([1.0] * 4, False), ([0.1] * 4, False)]
)
def test_units_that_died_are_put_down_to_it(dead: list[float], *, killed: bool) -> None:
    made = run(FAULTS["reduction"][0])
    seen = history({ACTIVATION_DEAD: {"act (relu)": dead}}, profile=made.profile, tapes=made.tapes)
    found = RULE.check(seen)
    assert found is not None
    assert ("LP501" in found.explains) is killed


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    assert RULE.check(run(HEALTHY[kind])) is None


def test_adam_takes_no_harm() -> None:
    found = RULE.check(run(FAULTS["reduction"][0], "Adam"))
    assert found is not None
    assert found.certainty == "possible"


def test_a_batch_of_few_samples() -> None:
    assert RULE.check(run(FAULTS["reduction"][0], samples=4)) is None
