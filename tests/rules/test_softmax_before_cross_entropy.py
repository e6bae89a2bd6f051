from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_plateau.rules.softmax_before_cross_entropy import SoftmaxBeforeCrossEntropy
from tests.rules.taped import Loss, labels, points, taped

RULE = SoftmaxBeforeCrossEntropy()


class Home(nn.Module):
    """Probabilities made by hand."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        raised = logits.exp()
        return raised / raised.sum(dim=1, keepdim=True)


FAULTS: dict[str, tuple[Loss, nn.Module]] = {
    "module": (
        lambda net, x, y: nn.CrossEntropyLoss()(net(x), y),
        nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1)),
    ),
    "functional": (lambda net, x, y: F.cross_entropy(F.softmax(net(x), -1), y), nn.Linear(4, 3)),
    "method": (lambda net, x, y: F.cross_entropy(net(x).softmax(1), y), nn.Linear(4, 3)),
    "by hand": (
        lambda net, x, y: F.cross_entropy(net(x), y),
        nn.Sequential(nn.Linear(4, 3), Home()),
    ),
    "through dropout and a view": (
        lambda net, x, y: F.cross_entropy(net(x).softmax(-1).view(-1, 3), y),
        nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1)),
    ),
    "over the wrong dimension": (
        lambda net, x, y: F.cross_entropy(net(x).softmax(0), y),
        nn.Linear(4, 3),
    ),
    "log_softmax of softmax": (
        lambda net, x, y: F.nll_loss(net(x).softmax(1).log_softmax(1), y),
        nn.Linear(4, 3),
    ),
    "weighed and added to a penalty": (
        lambda net, x, y: (
            0.5 * F.cross_entropy(net(x).softmax(1), y)
            + 1e-3 * sum(p.square().sum() for p in net.parameters())
        ),
        nn.Linear(4, 3),
    ),
    "sequences": (
        lambda net, x, y: F.cross_entropy(
            net(x).unsqueeze(1).expand(-1, 5, -1).softmax(-1).transpose(1, 2),
            y[:, None].expand(-1, 5),
        ),
        nn.Linear(4, 3),
    ),
}
HEALTHY: dict[str, tuple[Loss, nn.Module]] = {
    "logits": (lambda net, x, y: F.cross_entropy(net(x), y), nn.Linear(4, 3)),
    "log_softmax and nll_loss": (
        lambda net, x, y: F.nll_loss(net(x).log_softmax(1), y),
        nn.Linear(4, 3),
    ),
    "softmax for a logged metric": (
        lambda net, x, y: (
            F.cross_entropy(net(x), y) + 0 * (net(x).softmax(1).argmax(1) == y).float().mean()
        ),
        nn.Linear(4, 3),
    ),
    "attention inside": (
        lambda net, x, y: F.cross_entropy(net(net(x).softmax(1) @ torch.ones(3, 4)), y),
        nn.Linear(4, 3),
    ),
    "soft targets": (
        lambda net, x, y: F.cross_entropy(net(x), F.one_hot(y, 3).float().softmax(1)),
        nn.Linear(4, 3),
    ),
    "Brier score": (
        lambda net, x, y: F.mse_loss(net(x).softmax(1), F.one_hot(y, 3).float()),
        nn.Linear(4, 3),
    ),
    "logits that are zero": (
        lambda net, x, y: F.cross_entropy(net(x) * 0.0, y),
        nn.Linear(4, 3),
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_found_and_certain(kind: str) -> None:
    loss, net = FAULTS[kind]
    found = RULE.check(taped(loss, net, points(), labels()))
    assert found is not None
    assert found.certain


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    loss, net = HEALTHY[kind]
    assert RULE.check(taped(loss, net, points(), labels())) is None


def test_scaled_probabilities_are_likely() -> None:
    found = RULE.check(
        taped(
            lambda n, x, y: F.cross_entropy(n(x).softmax(1) / 0.1, y),
            nn.Linear(4, 3),
            points(),
            labels(),
        )
    )
    assert found is not None
    assert not found.certain


def test_names_the_layer() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=1))
    found = RULE.check(taped(lambda n, x, y: F.cross_entropy(n(x), y), net, points(), labels()))
    assert found is not None
    assert found.where == "1 (softmax)"
