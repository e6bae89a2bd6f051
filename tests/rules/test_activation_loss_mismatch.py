from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.finding import Severity
from lightning_plateau.rules.activation_loss_mismatch import ActivationLossMismatch
from tests.rules.taped import Loss, labels, points, taped

RULE = ActivationLossMismatch()
THREE, ONE = nn.Linear(4, 3), nn.Linear(4, 1)
RECTIFIED = nn.Sequential(nn.Linear(4, 1), nn.ReLU())
BINARY = (labels(16, 2).float()[:, None],)
SIGNED = points(16, 1, seed=1)
POSITIVE = SIGNED.abs()


def frozen(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(2 * x).softmax(1)


def alignment(labels: int, frames: int) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    return torch.ones(2, labels, dtype=torch.long), (frames, frames), (labels, labels)


def aligned(said: Tensor) -> Tensor:
    """Return the alignment loss of two samples of eight frames."""
    return F.ctc_loss(said.view(8, 2, 3), *alignment(labels=2, frames=8))


FAULTS: dict[str, tuple[Loss, nn.Module, Tensor]] = {
    "sigmoid twice": (
        lambda net, x, y: F.binary_cross_entropy_with_logits(net(x).sigmoid(), y),
        ONE,
        *BINARY,
    ),
    "sigmoid twice, module": (
        lambda net, x, y: nn.BCEWithLogitsLoss()(net(x).squeeze(1), y.squeeze(1)),
        nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()),
        *BINARY,
    ),
    "rectified logits of yes or no": (
        lambda net, x, y: F.binary_cross_entropy_with_logits(net(x), y),
        RECTIFIED,
        *BINARY,
    ),
    "logits into binary cross-entropy": (
        lambda net, x, y: F.binary_cross_entropy(5 * net(x), y),
        ONE,
        *BINARY,
    ),
    "sigmoid before cross-entropy": (
        lambda net, x, y: F.cross_entropy(net(x).sigmoid(), y),
        THREE,
        labels(),
    ),
    "probabilities into nll_loss": (
        lambda net, x, y: F.nll_loss(net(x).softmax(1), y),
        THREE,
        labels(),
    ),
    "scores into nll_loss": (lambda net, x, y: F.nll_loss(net(x), y), THREE, labels()),
    "log_softmax over the batch": (
        lambda net, x, y: F.nll_loss(net(x).log_softmax(0), y),
        THREE,
        labels(),
    ),
    "probabilities into kl_div": (
        lambda net, x, y: F.kl_div(
            net(x).softmax(1), F.one_hot(y, 3).float(), reduction="batchmean"
        ),
        THREE,
        labels(),
    ),
    "probabilities of a student into kl_div": (
        lambda net, x, y: F.kl_div(net(x).softmax(1), 2 * frozen(net, x), reduction="batchmean"),
        THREE,
        labels(),
    ),
    "scores into ctc_loss": (lambda net, x, y: aligned(net(x)), THREE, labels()),
    "probabilities into ctc_loss": (lambda net, x, y: aligned(net(x).softmax(1)), THREE, labels()),
    "ctc_loss of what is normalized over time": (
        lambda net, x, y: F.ctc_loss(
            net(x).view(8, 2, 3).log_softmax(0), *alignment(labels=2, frames=8)
        ),
        THREE,
        labels(),
    ),
    "softmax over several labels at a time": (
        lambda net, x, y: F.binary_cross_entropy(net(x).softmax(1), 1.0 - F.one_hot(y, 3).float()),
        THREE,
        labels(),
    ),
    "rectified regression": (lambda net, x, y: F.mse_loss(net(x), y), RECTIFIED, SIGNED),
    "rectified regression, by hand": (
        lambda net, x, y: ((y - net(x)) ** 2).mean(),
        RECTIFIED,
        SIGNED,
    ),
    "rectified regression, Huber": (
        lambda net, x, y: nn.SmoothL1Loss()(net(x), y),
        nn.Sequential(nn.Linear(4, 1), nn.Softplus()),
        SIGNED,
    ),
    "softmax of one": (
        lambda net, x, y: F.binary_cross_entropy(net(x).softmax(1), y),
        ONE,
        *BINARY,
    ),
    "cross-entropy of one class": (
        lambda net, x, y: F.cross_entropy(net(x), y * 0),
        ONE,
        labels(),
    ),
}
HEALTHY: dict[str, tuple[Loss, nn.Module, Tensor]] = {
    "binary logits": (
        lambda net, x, y: F.binary_cross_entropy_with_logits(net(x), y),
        ONE,
        *BINARY,
    ),
    "sigmoid and binary cross-entropy": (
        lambda net, x, y: F.binary_cross_entropy(net(x).sigmoid(), y),
        ONE,
        *BINARY,
    ),
    "rectified logits of what is always more likely than not": (
        lambda net, x, y: F.binary_cross_entropy_with_logits(net(x), 0.5 + 0.5 * y),
        RECTIFIED,
        *BINARY,
    ),
    "one class a sample as ones and zeros, some left out": (
        lambda net, x, y: F.cross_entropy(net(x), F.one_hot(y, 3).float() * (y > 0)[:, None]),
        THREE,
        labels(),
    ),
    "shares of classes": (
        lambda net, x, y: F.cross_entropy(net(x), (F.one_hot(y, 3) + 1.0) / 4),
        THREE,
        labels(),
    ),
    "softmax and binary cross-entropy": (
        lambda net, x, y: F.binary_cross_entropy(net(x).softmax(1), F.one_hot(y, 3).float()),
        THREE,
        labels(),
    ),
    "ctc_loss": (lambda net, x, y: aligned(net(x).log_softmax(1)), THREE, labels()),
    "a divergence the other way round": (
        lambda net, x, y: F.kl_div(
            torch.full((16, 3), 1 / 3).log(), net(x).softmax(1), reduction="batchmean"
        ),
        THREE,
        labels(),
    ),
    "a rectified code beside a quantized one that is held": (
        lambda net, x, y: F.mse_loss(net(x).relu(), (net(x) * 2).detach()),
        THREE,
        labels(),
    ),
    "softmax of which some samples have no label": (
        lambda net, x, y: F.binary_cross_entropy(
            net(x).softmax(1), F.one_hot(y, 3).float() * (y > 0)[:, None]
        ),
        THREE,
        labels(),
    ),
    "logits": (lambda net, x, y: F.cross_entropy(net(x), y), THREE, labels()),
    "log-probabilities": (
        lambda net, x, y: F.nll_loss(net(x).log_softmax(1), y),
        THREE,
        labels(),
    ),
    "log of probabilities": (
        lambda net, x, y: F.nll_loss(net(x).softmax(1).log(), y),
        THREE,
        labels(),
    ),
    "distillation": (
        lambda net, x, y: F.kl_div(
            net(x).log_softmax(1), net(x).detach().softmax(1), reduction="batchmean"
        ),
        THREE,
        labels(),
    ),
    "regression": (lambda net, x, y: F.mse_loss(net(x), y), ONE, SIGNED),
    "rectified output for positive targets": (
        lambda net, x, y: F.mse_loss(net(x), y),
        RECTIFIED,
        POSITIVE,
    ),
    "rectified features": (
        lambda net, x, y: F.mse_loss(net(x), y),
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)),
        SIGNED,
    ),
    "a gate before the output": (
        lambda net, x, y: F.cross_entropy(net(x) * net(x).sigmoid(), y),
        THREE,
        labels(),
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_found_and_certain(kind: str) -> None:
    found = RULE.check(taped(FAULTS[kind][0], FAULTS[kind][1], points(), FAULTS[kind][2]))
    assert found is not None
    assert found.certain
    assert found.severity is Severity.ERROR


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    assert RULE.check(taped(HEALTHY[kind][0], HEALTHY[kind][1], points(), HEALTHY[kind][2])) is None


def test_log_softmax_before_cross_entropy_is_needless_but_harmless() -> None:
    found = RULE.check(
        taped(lambda n, x, y: F.cross_entropy(n(x).log_softmax(1), y), THREE, points(), labels())
    )
    assert found is not None
    assert found.severity is Severity.INFO


def test_rectified_logits_are_only_likely() -> None:
    found = RULE.check(
        taped(lambda n, x, y: F.cross_entropy(torch.relu(n(x)), y), THREE, points(), labels())
    )
    assert found is not None
    assert not found.certain


@pytest.mark.parametrize("classes", [2, 3])
def test_several_classes_a_sample_in_a_loss_for_one(classes: int) -> None:
    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        wanted = (torch.arange(3) < classes).float().expand(len(x), 3)
        return F.cross_entropy(net(x), wanted * (y > 0)[:, None])

    found = RULE.check(taped(loss, THREE, points(), labels()))
    assert found is not None
    assert not found.certain
    assert "several labels" in found.fix


@pytest.mark.parametrize(("bias", "dead"), [(-50.0, True), (0.0, False)])
def test_a_rectifier_that_ends_the_network_and_died(bias: float, *, dead: bool) -> None:
    last = nn.Linear(4, 1)
    nn.init.constant_(last.bias, bias)
    net = nn.Sequential(last, nn.ReLU())
    found = RULE.check(taped(lambda n, x, y: F.mse_loss(n(x), y), net, points(), POSITIVE))
    assert (found is not None) is dead
    assert found is None or not found.certain


CLASSES = nn.Parameter(points(10, 4, seed=2))
MANY = nn.Parameter(points(512, 4, seed=2))


def by_hand(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-8)


@pytest.mark.parametrize(
    ("scores", "least"),
    [
        (lambda x: F.linear(F.normalize(x), F.normalize(CLASSES)), 0.797),
        (lambda x: by_hand(x) @ by_hand(CLASSES).t(), 0.797),
        (lambda x: F.normalize(x) @ F.normalize(CLASSES).T * 0.1, 2.12),
        (lambda x: F.cosine_similarity(x[:, None], CLASSES, dim=2), 0.797),
        (lambda x: F.normalize(x) @ F.normalize(CLASSES).t() / 0.1, None),
        (lambda x: F.normalize(x) @ F.normalize(MANY).t() / 0.5, None),
        (lambda x: F.normalize(x) @ F.normalize(CLASSES).t() * CLASSES.exp().mean(), None),
        (lambda x: F.normalize(x) @ CLASSES.t(), None),
        (lambda x: F.normalize(x, p=1) @ F.normalize(CLASSES).t(), None),
    ],
)
def test_cosines_as_scores(scores: Any, least: float | None) -> None:
    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(scores(net(x)), y)

    found = RULE.check(taped(loss, nn.Linear(4, 4), points(), labels(16, 10)))
    assert (found is None) is (least is None)
    assert found is None or f"cannot go below {least}" in found.message
