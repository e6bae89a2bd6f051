"""Fingerprints and labels of samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_plateau.recording.probes.samples import MOST_COLUMNS, fingerprints, label_values

DTYPES = [torch.uint8, torch.bool, torch.int64, torch.float16, torch.float32, torch.float64]


def prints(*tensors: Tensor) -> list[tuple[float, ...]]:
    return [tuple(row) for row in fingerprints(tensors).tolist()]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_samples_are_known_whatever_batch_they_come_in(dtype: torch.dtype) -> None:
    data = (torch.rand(64, 3, 5) * 2).to(dtype)
    data[40] = data[7]
    alone = prints(data[7:8])
    assert prints(data)[7] == prints(data)[40] == alone[0]
    assert prints(data.flip(0))[-1] == prints(data)[0]


def test_large_samples_are_known_in_batches_of_any_size() -> None:
    data = torch.rand(128, 3, 32, 32)
    assert prints(data)[:8] == prints(data[:8])


def test_distinct_samples_differ() -> None:
    assert len(set(prints(torch.rand(8192, 2)))) == 8192
    assert len(set(prints(torch.randint(0, 10, (8192, 64)).float()))) == 8192
    assert len(set(prints(torch.arange(8192)))) == 8192


@pytest.mark.parametrize("dtype", DTYPES[2:], ids=str)
def test_round_numbers_differ_too(dtype: torch.dtype) -> None:
    assert len(set(prints((torch.randint(0, 17, (8192, 64)) / 16 * 8).to(dtype)))) == 8192
    assert len(set(prints(torch.randint(0, 2, (8192, 64)).to(dtype)))) == 8192


def test_order_of_features_matters_and_every_tensor_counts() -> None:
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])
    assert prints(a) != prints(b)
    assert prints(a, b) != prints(b, a)
    assert prints(a, torch.zeros(1)) != prints(a, torch.ones(1))


def test_a_single_element_tells_in_large_samples() -> None:
    data = torch.zeros(2, 256 * MOST_COLUMNS)
    data[1, 1] = 1.0  # not among the elements that have a weight of their own
    first, second = prints(data)
    assert first != second


def test_values_that_are_not_finite_do_no_harm() -> None:
    data = torch.tensor([[math.nan, math.inf], [math.nan, math.inf], [math.inf, math.nan]])
    first, second, third = prints(data)
    assert first == second != third


def test_fingerprints_pass_through_float32() -> None:
    found = fingerprints([torch.rand(100, 7)])
    assert found.dtype == torch.float32
    assert float(found.max()) < 2**24
    assert torch.equal(found, found.round())


def test_labels() -> None:
    assert label_values(torch.tensor([[2], [0]]), 3).tolist() == [2.0, 0.0]
    assert label_values(torch.tensor([0.0, 1.0]), 2).tolist() == [0.0, 1.0]
    assert label_values(torch.eye(3), 3).tolist() == [0.0, 1.0, 2.0]
    assert label_values(torch.zeros(1000, 1000, dtype=torch.int64), 3).numel() <= 4096


def test_labels_are_copied() -> None:
    target = torch.tensor([0.0, 1.0])
    found = label_values(target, 2)
    target.zero_()
    assert found.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex64], ids=str)
def test_never_reads_the_device(dtype: torch.dtype) -> None:
    data = torch.ones(4, 3, dtype=dtype, device="meta")
    assert fingerprints([data]).is_meta
    if not dtype.is_complex:
        assert label_values(data, 3).is_meta


def test_round_numbers_in_double_precision_differ() -> None:
    rows = torch.randint(17, (4000, 64), generator=torch.Generator().manual_seed(0)).double() / 16
    assert len({tuple(one) for one in fingerprints([rows]).tolist()}) == 4000
