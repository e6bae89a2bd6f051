from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lightning_plateau import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import GroupFact, OptimizerFact, Profile
from lightning_plateau.core.signal import UPDATE_DESCENT
from lightning_plateau.rules.uphill_updates import UphillUpdates
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer

RULE = UphillUpdates()


def run(cosines: list[float], *flags: str, maximize: bool = False) -> History:
    group = GroupFact((), {"maximize": maximize})
    profile = Profile(optimizers=(OptimizerFact("SGD", (group,), flags),))
    return history({UPDATE_DESCENT: cosines}, loss=[2.3] * 50, profile=profile)


@pytest.mark.parametrize(
    ("made", "speaks"),
    [
        (run([-1.0] * 5), True),
        (run([-0.6, -0.3, 0.0, -0.8]), True),
        (run([-1.0] * 2), False),
        (run([1.0, -0.4, -0.5, -0.9]), False),
        (run([-0.05] * 9), False),
        (run([0.0] * 9), False),
        (run([-1.0] * 5, maximize=True), False),
        (run([-1.0] * 5, "closure"), False),
    ],
)
def test_updates_are_uphill_from_the_first_on(made: History, speaks: bool) -> None:
    assert (RULE.check(made) is not None) is speaks


class Own(torch.optim.Optimizer):
    """An optimizer written by hand."""

    def __init__(self, parameters: Any, rate: float, sign: float) -> None:
        super().__init__(parameters, {"lr": rate})
        self.sign = sign

    def step(self, closure: Any = None) -> Any:
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=self.sign * group["lr"])
        return loss


class Trained(Digits):
    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


class ByHand(Trained):
    """Sets the gradients to zero after the step, not before it."""

    def __init__(self, make: Any) -> None:
        super().__init__(make)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        images, labels = batch
        optimizer = self.optimizers()
        self.manual_backward(F.cross_entropy(self(images), labels))
        optimizer.step()
        optimizer.zero_grad()


def found(module: Digits, folder: Path, *, only: bool = False) -> PlateauCallback:
    torch.manual_seed(0)
    select = ["LP417"] if only else None
    own = PlateauCallback(policy="observe", dirpath=str(folder), quiet=True, select=select)
    trainer(own, max_epochs=4).fit(module, loader(512, 32))
    return own


@pytest.mark.parametrize("kind", [Trained, ByHand])
@pytest.mark.parametrize("only", [False, True])
def test_an_optimizer_that_adds_what_it_should_subtract(
    kind: Any, only: bool, tmp_path: Path
) -> None:
    own = found(kind(lambda p: Own(p, 0.01, 1.0)), tmp_path, only=only)
    assert own.findings[0].code == "LP417"
    assert not own.findings[0].explained_by


def momentum(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.99)


def decayed(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, weight_decay=1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Own(p, 0.05, -1.0),
        momentum,
        decayed,
        lambda p: torch.optim.Adam(p, lr=0.5),
        lambda p: torch.optim.RMSprop(p, lr=0.01),
        torch.optim.Rprop,
    ],
)
def test_no_optimizer_that_descends_is_told_of(make: Any, tmp_path: Path) -> None:
    own = found(Trained(make), tmp_path, only=True)
    assert own.findings == ()
    assert own.history[UPDATE_DESCENT].values[0] > 0
