from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lightning_plateau.core.history import History
from lightning_plateau.core.profile import Profile
from lightning_plateau.core.signal import BATCH_SIZE, GRADIENT_AGREEMENT
from lightning_plateau.recording.agreement import GradientAgreement
from lightning_plateau.rules.noisy_gradients import NoisyGradients
from lightning_plateau.testing import history

RULE = NoisyGradients()
NOISE = list(np.random.default_rng(0).normal(0.01, 0.03, 20))


def run(cosines: list[float], batch: float = 2.0, **profile: int) -> History:
    signals = {GRADIENT_AGREEMENT: cosines, BATCH_SIZE: [batch] * 5}
    return history(signals, loss=[2.3] * 100, profile=Profile(**profile))


@pytest.mark.parametrize(
    ("made", "speaks"),
    [
        (run(NOISE), True),
        (run(NOISE, 256.0), False),
        (run(NOISE, 8.0, accumulate_grad_batches=8), False),
        (run(NOISE, batches_per_epoch=1), False),
        (run([0.5] * 8 + NOISE), False),
        (run(NOISE + [0.5] * 40), False),
        (run(NOISE[:8]), False),
        (run([float("nan")] * 20), False),
    ],
)
def test_agreement(made: History, speaks: bool) -> None:
    found = RULE.check(made)
    assert (found is not None) is speaks
    assert found is None or found.certainty == "possible"


def gradients_of(layer: nn.Linear, inputs: torch.Tensor) -> None:
    layer.zero_grad()
    layer(inputs).sum().backward()


def test_the_same_batch_agrees_and_the_opposite_one_disagrees() -> None:
    layer, x = nn.Linear(3, 1, bias=False), torch.tensor([[1.0, 2.0, 3.0]])
    agreement = GradientAgreement(list(layer.parameters()))
    assert agreement.compare() is None
    for factor in (2.0, -1.0):
        gradients_of(layer, x)
        agreement.remember()
        gradients_of(layer, factor * x)
        assert float(agreement.compare()) == pytest.approx(np.sign(factor))
        assert agreement.compare() is None


def test_never_reads_the_device() -> None:
    layer = nn.Linear(3, 1, device="meta")
    agreement = GradientAgreement(list(layer.parameters()))
    for parameter in layer.parameters():
        parameter.grad = torch.empty_like(parameter)
    agreement.remember()
    assert agreement.compare().is_meta
