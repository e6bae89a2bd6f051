"""What normalization layers see of a batch, and what they remember."""

from __future__ import annotations

import pytest
import torch

from lightning_plateau.recording.probes.normalization import batch_moments, running_moments

SHAPES = [(16, 3), (16, 3, 5), (8, 3, 4, 4), (4, 3, 2, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_moments_agree_with_numpy(shape: tuple[int, ...]) -> None:
    values = torch.randn(shape) * 3 + 2
    other = tuple(d for d in range(len(shape)) if d != 1)
    plain = values.double().numpy()
    mean, variance = batch_moments(values).tolist()
    assert mean == pytest.approx((plain.mean(axis=other) ** 2).mean() ** 0.5, rel=1e-5)
    assert variance == pytest.approx(plain.var(axis=other).mean(), rel=1e-5)


def test_half_precision_does_not_overflow() -> None:
    values = torch.full((8, 2), 1000.0, dtype=torch.float16)
    assert batch_moments(values).tolist() == [1000.0, 0.0]


@pytest.mark.parametrize("shape", SHAPES)
def test_never_read_the_device(shape: tuple[int, ...]) -> None:
    assert batch_moments(torch.ones(shape, device="meta")).is_meta
    assert running_moments([torch.ones(3, device="meta")], [torch.ones(3, device="meta")]).is_meta


def test_running_moments() -> None:
    [(mean, variance)] = running_moments(
        [torch.tensor([3.0, -4.0])], [torch.tensor([1.0, 3.0])]
    ).tolist()
    assert (mean, variance) == pytest.approx((12.5**0.5, 2.0))
