from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_plateau.core.reshaping import straddles, transposed
from lightning_plateau.rules.reshaped_not_transposed import ReshapedNotTransposed
from tests.rules.taped import Loss, taped

RULE = ReshapedNotTransposed()
SEQUENCES, IMAGES = torch.zeros(9, 10, 4), torch.zeros(8, 1, 6, 10)
CLASSES = torch.zeros(8, 6, 10, dtype=torch.long)


def scores(net: nn.Module, x: Tensor) -> Tensor:
    """Return scores of two classes for each pixel, ``[N, 2, H, W]``."""
    return F.conv2d(x, net.weight[:2, :1, None, None], padding=0)


def tags(net: nn.Module, x: Tensor) -> Tensor:
    """Return scores of five classes for each of ten steps, ``[9, 10, 5]``."""
    return F.linear(x, net.weight[:5])


FAULTS: dict[str, tuple[Loss, Tensor, Tensor]] = {
    "time and batch exchanged by view": (
        lambda net, x, y: net(x.view(10, 9, 4)).mean(),
        SEQUENCES,
        CLASSES,
    ),
    "heads merged before they are moved back": (
        lambda net, x, y: net(x[:, None].expand(9, 3, 10, 4).reshape(9, 10, 12)[..., :4]).mean(),
        SEQUENCES,
        CLASSES,
    ),
    "a mask permuted and reshaped back": (
        lambda net, x, y: F.mse_loss(scores(net, x)[:, :1], y.permute(0, 2, 1).reshape(x.shape)),
        IMAGES,
        CLASSES.float(),
    ),
    "scores of pixels as rows": (
        lambda net, x, y: F.cross_entropy(scores(net, x).reshape(-1, 2), y.reshape(-1)),
        IMAGES,
        CLASSES,
    ),
    "scores of pixels as rows of log-probabilities": (
        lambda net, x, y: F.nll_loss(scores(net, x).view(-1, 2).log_softmax(1), y.view(-1)),
        IMAGES,
        CLASSES,
    ),
    "scores of steps, the classes moved by view": (
        lambda net, x, y: F.cross_entropy(tags(net, x).view(9, 5, 10), y[:, 0]),
        SEQUENCES,
        torch.zeros(9, 6, 10, dtype=torch.long),
    ),
}
HEALTHY: dict[str, tuple[Loss, Tensor, Tensor]] = {
    "transposed": (lambda net, x, y: net(x.transpose(0, 1)).mean(), SEQUENCES, CLASSES),
    "samples and steps merged": (
        lambda net, x, y: net(x.reshape(90, 4)).view(9, 10, -1).mean(),
        SEQUENCES,
        CLASSES,
    ),
    "heads": (
        lambda net, x, y: net(x.view(9, 10, 2, 2).transpose(1, 2).reshape(18, 20)[:, :4]).mean(),
        SEQUENCES,
        CLASSES,
    ),
    "windows": (
        lambda net, x, y: net(x.view(8, 3, 2, 5, 2).transpose(2, 3).reshape(-1, 4)).mean(),
        IMAGES,
        CLASSES,
    ),
    "channels shuffled": (
        lambda net, x, y: net(x.view(9, 2, 5, 4).transpose(1, 2).reshape(9, 10, 4)).mean(),
        SEQUENCES,
        CLASSES,
    ),
    "scores moved last": (
        lambda net, x, y: F.cross_entropy(
            scores(net, x).permute(0, 2, 3, 1).reshape(-1, 2), y.reshape(-1)
        ),
        IMAGES,
        CLASSES,
    ),
    "scores of places, the classes last already": (
        lambda net, x, y: F.cross_entropy(
            net(x).reshape(-1, 6), y[:, :1].expand(-1, 2, -1)[0, 0, :1].expand(90)
        ),
        SEQUENCES,
        CLASSES,
    ),
    "scores of steps, the classes moved": (
        lambda net, x, y: F.cross_entropy(tags(net, x).transpose(1, 2), y[:, 0]),
        SEQUENCES,
        torch.zeros(9, 6, 10, dtype=torch.long),
    ),
    "several labels of one sample": (
        lambda net, x, y: F.cross_entropy(net(x[:, 0]).view(9, 2, 3), y[:, 0, :3]),
        SEQUENCES,
        torch.zeros(9, 6, 10, dtype=torch.long),
    ),
    "scores of the only step": (
        lambda net, x, y: F.cross_entropy(tags(net, x[:, :1]).view(9, 5, 1), y[:, 0, :1]),
        SEQUENCES,
        torch.zeros(9, 6, 10, dtype=torch.long),
    ),
    "a weight by its property T": (
        lambda net, x, y: (x @ net.weight[:3].T @ net.weight[:3]).mean(),
        SEQUENCES,
        CLASSES,
    ),
    "an image as a row": (
        lambda net, x, y: net(x.view(8, -1)[:, :4]).mean(),
        IMAGES,
        CLASSES,
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_found(kind: str) -> None:
    loss, x, y = FAULTS[kind]
    found = RULE.check(taped(loss, nn.Linear(4, 6), x, y))
    assert found is not None
    assert found.certainty == "likely"
    assert "permute" in found.fix


@pytest.mark.parametrize("kind", HEALTHY)
def test_silent(kind: str) -> None:
    loss, x, y = HEALTHY[kind]
    assert RULE.check(taped(loss, nn.Linear(4, 6), x, y)) is None


@pytest.mark.parametrize(
    ("before", "after", "across"),
    [
        ((9, 10, 4), (10, 9, 4), True),
        ((8, 10, 4), (8, 40), False),
        ((8, 16, 4), (16, 8, 4), False),
        ((12,), (3, 4), False),
        ((0, 3), (3, 0), False),
        ((), (1,), False),
    ],
)
def test_straddles(before: tuple[int, ...], after: tuple[int, ...], across: bool) -> None:
    assert straddles(before, after) is across


def test_what_no_order_explains() -> None:
    assert transposed((9, 10), (6, 15)) is None
    assert transposed((4, 9), (9, 4)) == (1, 0)
