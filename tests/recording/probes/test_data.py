"""Statistics of the tensors of a batch."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_plateau.recording.probes.data import DATA_STATISTICS, LARGE, data_statistics


def looked_at(values: torch.Tensor) -> dict[str, float]:
    return dict(zip(DATA_STATISTICS, data_statistics(values).tolist(), strict=True))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.float64])
def test_moments_agree_with_numpy(dtype: torch.dtype) -> None:
    values = (torch.rand(16, 3, 4) * 100).to(dtype)
    plain, found = values.double().numpy(), looked_at(values)
    assert found["mean"] == pytest.approx(plain.mean(), rel=1e-5)
    assert found["std"] == pytest.approx(plain.std(), rel=1e-4)
    assert (found["minimum"], found["maximum"]) == pytest.approx((plain.min(), plain.max()))
    assert found["non_finite"] == 0.0


def test_counts_what_is_not_finite() -> None:
    values = torch.zeros(4, 5)
    values[1, 2], values[3, 3], values[0, 0] = math.nan, math.inf, -math.inf
    assert looked_at(values)["non_finite"] == 3.0


def test_counts_what_is_not_finite_in_full() -> None:
    values = torch.zeros(3 * LARGE)
    values[1] = math.nan  # not among the sampled elements
    assert looked_at(values)["non_finite"] == 1.0


def test_constant_features() -> None:
    values = torch.rand(8, 4)
    values[:, 0] = 2.0
    assert looked_at(values)["constant_features"] == 0.25
    assert math.isnan(looked_at(torch.rand(8))["constant_features"])
    assert math.isnan(looked_at(torch.rand(1, 4))["constant_features"])  # one sample tells nothing


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    assert looked_at(torch.ones(3, 2).to(dtype))["mean"] == 1.0


def test_sparse_batches_count_what_they_hold() -> None:
    sparse = torch.eye(4).to_sparse()
    found = looked_at(sparse)
    assert (found["maximum"], found["non_finite"]) == (1.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.complex64])
def test_never_reads_the_device(dtype: torch.dtype) -> None:
    assert data_statistics(torch.ones(4, 3, dtype=dtype, device="meta")).is_meta
