"""Norms of gradients: right for every type and shape, and never a wait for the device."""

from __future__ import annotations

import math
import os

import pytest
import torch
import torch.distributed.tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_plateau.recording.probes.gradients import stacked, tensor_norms
from tests.ranks import on_ranks

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


def reference(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.to_dense().to(torch.complex128)))


@pytest.mark.parametrize("dtype", TYPES)
def test_agree_with_plain_torch(dtype: torch.dtype) -> None:
    tensors = [torch.randn(3, 4).to(dtype), torch.randn(7).to(dtype), torch.randn(()).to(dtype)]
    for norm, tensor in zip(tensor_norms(tensors), tensors, strict=True):
        assert norm.shape == ()
        assert float(norm) == pytest.approx(reference(tensor), rel=1e-5)


def test_half_precision_is_summed_in_single() -> None:
    large = torch.full((4,), 40_000.0, dtype=torch.float16)
    (norm,) = tensor_norms([large])
    assert norm.dtype is torch.float32
    assert float(norm) == pytest.approx(80_000.0)  # infinite in half precision


def test_double_stays_double() -> None:
    (norm,) = tensor_norms([torch.full((2,), 1e100, dtype=torch.float64)])
    assert norm.dtype is torch.float64
    assert float(norm) == pytest.approx(math.sqrt(2) * 1e100)


def test_whole_numbers_have_norms_too() -> None:
    quantized = torch.tensor([3, 4], dtype=torch.uint8)
    assert [float(n) for n in tensor_norms([quantized, torch.ones(1)])] == [5.0, 1.0]


def test_nothing_gives_nothing_and_empty_gives_zero() -> None:
    assert tensor_norms([]) == []
    assert float(tensor_norms([torch.zeros(0, 3)])[0]) == 0.0


def test_uncoalesced_sparse_counts_each_place_once() -> None:
    indices, values = torch.tensor([[0, 0, 1]]), torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 0.0]])
    sparse = torch.sparse_coo_tensor(indices, values, (5, 2))
    assert not sparse.is_coalesced()
    dense, alone = tensor_norms([torch.ones(4), sparse])
    assert float(alone) == pytest.approx(math.sqrt(4 + 16 + 9))
    assert float(dense) == 2.0


def test_types_and_layouts_may_be_mixed_and_keep_their_order() -> None:
    tensors = [
        torch.full((4,), 1.0, dtype=torch.float16),
        torch.full((9,), 1.0, dtype=torch.float64),
        torch.full((1,), 5.0),
        torch.zeros(2),
        torch.nn.Parameter(torch.full((16,), 1.0)),
        torch.full((4,), 3.0, dtype=torch.float16),
    ]
    assert [float(norm) for norm in tensor_norms(tensors)] == [2.0, 3.0, 5.0, 0.0, 4.0, 6.0]


def test_devices_may_be_mixed() -> None:
    norms = tensor_norms([torch.ones(4), torch.ones(3, device="meta"), torch.zeros(1)])
    assert [norm.device.type for norm in norms] == ["cpu", "meta", "cpu"]


def test_norms_from_several_devices_and_types_are_put_together_on_the_first() -> None:
    values = [torch.ones((), device="meta"), torch.ones(()), torch.ones((), dtype=torch.float64)]
    assert stacked(values).is_meta
    assert stacked(values[1:]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", TYPES)
def test_never_reads_the_device(dtype: torch.dtype) -> None:
    tensors = [torch.ones(3, 2, dtype=dtype, device="meta"), torch.ones((), device="meta")]
    assert all(norm.is_meta for norm in tensor_norms(tensors))


def test_not_finite_shows() -> None:
    nan, inf = tensor_norms([torch.tensor([1.0, math.nan]), torch.tensor([1.0, -math.inf])])
    assert math.isnan(float(nan))
    assert math.isinf(float(inf))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.lists(st.lists(st.floats(-(2.0**50), 2.0**50, width=32), max_size=8), max_size=6))
def test_scale_and_order_hold_for_any_list(rows: list[list[float]]) -> None:
    tensors = [torch.tensor(row) for row in rows]
    assert [float(n) for n in tensor_norms(tensors)] == pytest.approx(
        [float(t.double().norm()) for t in tensors], rel=1e-5, abs=1e-20
    )


def norms_of_spread() -> list[float]:
    torch.distributed.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]))
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    tensor = torch.distributed.tensor
    whole = [torch.arange(15.0).reshape(5, 3), torch.tensor([3.0]), torch.zeros(4, 2)]
    spread = [tensor.distribute_tensor(one, mesh, [tensor.Shard(0)]) for one in whole]
    kept = tensor.distribute_tensor(whole[0], mesh, [tensor.Replicate()])
    found = [float(norm) for norm in tensor_norms([*spread, kept, whole[0]])]
    torch.distributed.destroy_process_group()
    return found


@pytest.mark.distributed
@pytest.mark.skipif(
    not hasattr(torch.distributed.tensor, "distribute_tensor"), reason="torch has it elsewhere"
)
def test_of_tensors_that_are_spread_over_ranks_it_is_the_norm_of_the_whole() -> None:
    first, second = on_ranks(norms_of_spread)
    norm = float(torch.arange(15.0).norm())
    assert first == second == pytest.approx([norm, 3.0, 0.0, norm, norm])
