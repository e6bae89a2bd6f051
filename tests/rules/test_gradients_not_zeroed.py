from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_plateau import PlateauCallback
from lightning_plateau.core.profile import OptimizerFact, Profile
from lightning_plateau.core.signal import GRADIENTS_LEFT_OVER
from lightning_plateau.rules.gradients_not_zeroed import GradientsNotZeroed
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer

RULE = GradientsNotZeroed()
NAN = float("nan")


@pytest.mark.parametrize(
    ("columns", "speaks"),
    [
        ({"0": [0.0, 1.0, 2.0, 3.0]}, True),
        ({"0": [0.0, 1.0, float("inf"), 3.0]}, True),
        ({"0": [0.0, 1.0, 2.0]}, False),
        ({"0": [0.0, 0.0, 0.0, 0.0]}, False),
        ({"0": [0.0, 1.0, 2.0, 0.0]}, False),
        ({"0": [0.0, 0.0, 0.0, 0.0], "1": [NAN, 1.0, 2.0, 3.0]}, True),
        ({"0": [NAN] * 5}, False),
        ({}, False),
    ],
)
def test_left_over_on_every_step(columns: dict[str, list[float]], speaks: bool) -> None:
    found = RULE.check(history({GRADIENTS_LEFT_OVER: columns}))
    assert (found is not None) is speaks


def test_less_sure_with_several_optimizers() -> None:
    left = {GRADIENTS_LEFT_OVER: {"0": [0.0] * 5, "1": [0.0, 1.0, 1.0, 1.0, 1.0]}}
    alone = RULE.check(history(left))
    several = RULE.check(history(left, profile=Profile(optimizers=(OptimizerFact("SGD"),) * 2)))
    assert alone is not None
    assert several is not None
    assert (alone.confidence, several.confidence) == (1.0, 0.8)
    assert several.where == "optimizer 1"


class Manual(Digits):
    """Steps itself; what it does beside that, the subclasses say."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.loss(batch))
        self.optimizers().step()


class ClearedBefore(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.optimizers().zero_grad()
        super().training_step(batch, batch_idx)


class ClearedAfter(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        self.optimizers().zero_grad(set_to_none=False)


class Accumulating(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.manual_backward(self.loss(batch) / 4)
        if batch_idx % 4 == 3:
            self.optimizers().step()
            self.optimizers().zero_grad()


class Adversarial(Manual):
    """The backward of the one fills the gradients of the other, which are cleared in time."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for index, optimizer in enumerate(self.optimizers()):
            optimizer.zero_grad()
            self.manual_backward((1 - 2 * index) * self.loss(batch))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        body, head = self.net[0], self.net[-1]
        return [torch.optim.SGD(part.parameters(), lr=1e-3) for part in (body, head)]


class NeverCleared(Digits):
    def optimizer_zero_grad(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("faulty", [Manual, NeverCleared])
def test_training_that_never_clears(faulty: type[Digits], tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path))
    trainer(callback, max_epochs=4).fit(faulty(), loader())
    assert callback.findings[0].code == "LP308"
    assert callback.findings[0].certain


@pytest.mark.parametrize("healthy", [ClearedBefore, ClearedAfter, Accumulating, Adversarial])
def test_training_that_clears(healthy: type[Digits], tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path), select=["LP308"])
    trainer(callback, max_epochs=4).fit(healthy(), loader())
    assert not callback.findings
    assert callback.history[GRADIENTS_LEFT_OVER].values.size > 3
