from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from lightning_plateau import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import GroupFact, OptimizerFact, Profile
from lightning_plateau.core.signal import CLIP_COEFFICIENT, GRADIENT_NORM
from lightning_plateau.rules.clipping_twice import ClippingTwice
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer

RULE = ClippingTwice()


def run(norms: Any, coefficients: Any, limit: float | None = 1.0, **profile: Any) -> History:
    signals = {GRADIENT_NORM: norms, CLIP_COEFFICIENT: coefficients}
    return history(
        signals, loss=[2.3] * len(norms), profile=Profile(gradient_clip_val=limit, **profile)
    )


NESTEROV = (OptimizerFact("SGD", (GroupFact(("w",), {"nesterov": True}),)),)
HELD = np.minimum(np.random.default_rng(0).lognormal(1.0, 0.5, 100), 1.0)


@pytest.mark.parametrize(
    ("made", "speaks"),
    [
        (run([4.0] * 6, [0.1] * 6), True),
        (run([4.0] * 6, [0.25] * 6), False),
        (run([0.5] * 6, [1.0] * 6), False),
        (run([0.5] * 6, [0.5] * 6), True),
        (run([4.0] * 6, [0.1] * 5 + [0.25]), False),
        (run([4.0] * 4, [0.1] * 4), False),
        (run([4.0] * 6, [0.1] * 6, None), False),
        (run([4.0] * 6, [0.1] * 6, gradient_clip_algorithm="value"), False),
        (run([4.0] * 6, [0.1] * 6, manual_optimization=True), False),
        (run([4.0] * 6, [0.1] * 6, optimizers=NESTEROV), False),
        (run(HELD, []), True),
    ],
)
def test_what_is_left_beside_the_limit(made: History, speaks: bool) -> None:
    found = RULE.check(made)
    assert (found is not None) is speaks
    assert found is None or found.severity == "info"


class ClippingToo(Digits):
    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, 1.0, "norm")
        clip_grad_norm_(self.parameters(), 0.1)


class Nesterov(Digits):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True)


@pytest.mark.parametrize(("kind", "count"), [(ClippingToo, 1), (Digits, 0), (Nesterov, 0)])
def test_training(kind: type[Digits], count: int, tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path), select=["LP309"])
    trainer(callback, max_epochs=3, gradient_clip_val=1.0).fit(kind(), loader())
    assert len(callback.findings) == count
