from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lightning_plateau import PlateauCallback
from lightning_plateau.core.history import History
from lightning_plateau.core.profile import GroupFact, OptimizerFact, ParameterFact, Profile
from lightning_plateau.core.signal import CLIP_COEFFICIENT, GRADIENT_NORM
from lightning_plateau.rules.clipping_saturated import ClippingSaturated
from lightning_plateau.testing import history
from tests.digits import Digits, loader, trainer

RULE = ClippingSaturated()


def run(coefficients: list[float], kind: str = "SGD", norm: float = 10.0) -> History:
    group = GroupFact(("w",), {"eps": 1e-8})
    profile = Profile(
        parameters=(ParameterFact("w", "", (100, 100)),),
        optimizers=(OptimizerFact(kind, (group,)),),
        gradient_clip_val=0.1,
    )
    norms = {GRADIENT_NORM: [norm] * 20, CLIP_COEFFICIENT: coefficients}
    return history(norms, loss=[2.3] * 20, profile=profile)


@pytest.mark.parametrize(
    ("made", "confidence"),
    [
        (run([0.01] * 8), 0.75),
        (run([0.3] * 8), 0.5),
        (run([0.8] * 8), None),
        (run([0.01] * 3 + [1.0] * 5), None),
        (run([0.01] * 3), None),
        (run([]), None),
        (run([0.01] * 8, "Adam"), None),
        (run([1e-7] * 8, "Adam"), 0.75),
        (run([float("nan")] * 8), None),
    ],
)
def test_what_is_left_of_gradients(made: History, confidence: float | None) -> None:
    found = RULE.check(made)
    assert (None if found is None else found.confidence) == confidence


def test_norms_that_were_clipped_before_they_were_seen() -> None:
    raw = np.random.default_rng(0).lognormal(1.0, 0.5, 100)
    profile = Profile(optimizers=(OptimizerFact("SGD"),))
    held = history({GRADIENT_NORM: np.minimum(raw, 1.0)}, loss=[2.3] * 100, profile=profile)
    found = RULE.check(held)
    assert found is not None
    assert found.certainty == "possible"
    assert RULE.check(history({GRADIENT_NORM: raw}, loss=[2.3] * 100, profile=profile)) is None


class Slow(Digits):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(("clip", "expected"), [(1e-4, ["LP307"]), (1.0, []), (None, [])])
def test_training(clip: float | None, expected: list[str], tmp_path: Any) -> None:
    callback = PlateauCallback(policy="observe", dirpath=str(tmp_path))
    trainer(callback, max_epochs=8, gradient_clip_val=clip).fit(Slow(), loader())
    heads = [f.code for f in callback.findings if not f.explained_by and f.severity != "info"]
    assert heads == expected
