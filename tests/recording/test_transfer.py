"""Shipments arrive in order and whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_plateau.recording.transfer import Transfer

Arrived = list[tuple[str, list[list[float]]]]


def add(transfer: Transfer, name: str, arrived: Arrived, *tensors: torch.Tensor) -> None:
    transfer.add(tensors, lambda arrays: arrived.append((name, [a.tolist() for a in arrays])))


def test_delivers_each_parcel_its_own_in_order() -> None:
    transfer, arrived = Transfer(), []
    add(transfer, "first", arrived, torch.tensor([1.0, 2.0]), torch.tensor(3.0))
    add(transfer, "empty", arrived)
    add(transfer, "second", arrived, torch.tensor([[4.0]]), torch.zeros(0))
    assert not arrived
    transfer.send()
    assert arrived == [("first", [[1.0, 2.0], 3.0]), ("empty", []), ("second", [[[4.0]], []])]
    transfer.send(wait=True)
    assert len(arrived) == 3


def test_sending_nothing_is_harmless() -> None:
    Transfer().send()
    Transfer().send(wait=True)


def test_types_may_be_mixed_and_double_stays_exact() -> None:
    transfer, arrived = Transfer(), []
    exact = torch.tensor([1 / 3], dtype=torch.float64)
    add(transfer, "mixed", arrived, exact, torch.tensor([True]), torch.tensor([7]))
    transfer.send(wait=True)
    assert arrived == [("mixed", [[1 / 3], [1.0], [7.0]])]


def test_arrays_do_not_share_memory_with_the_device() -> None:
    transfer, value = Transfer(), torch.ones(2)
    kept: list[np.ndarray] = []
    transfer.add([value], kept.extend)
    transfer.send(wait=True)
    value.fill_(9.0)
    assert kept[0].tolist() == [1.0, 1.0]


def test_gradients_are_left_behind() -> None:
    transfer, arrived = Transfer(), []
    add(transfer, "loss", arrived, torch.ones(1, requires_grad=True) * 2)
    transfer.send()
    assert arrived == [("loss", [[2.0]])]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_arrives_one_shipment_late_on_cuda_unless_waited_for() -> None:
    transfer, arrived = Transfer(), []
    add(transfer, "a", arrived, torch.ones(1, device="cuda"))
    transfer.send()
    assert not arrived
    add(transfer, "b", arrived, torch.ones(1, device="cuda"))
    transfer.send()
    assert [name for name, _ in arrived] == ["a"]
    transfer.send(wait=True)
    assert [name for name, _ in arrived] == ["a", "b"]
