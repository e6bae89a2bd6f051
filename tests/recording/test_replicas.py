from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_plateau.recording.replicas import Replicas, replica_differences


def differences(*ranks: list[Tensor]) -> list[float]:
    """Return what each of several ranks would be told, taken to be the same."""
    sent: list[Tensor] = []

    def keep(values: Tensor) -> Tensor:
        sent.append(values)
        return values

    for rank in ranks:
        replica_differences(rank, keep)
    largest = torch.stack(sent).amax(dim=0)
    answers = [replica_differences(rank, lambda _: largest) for rank in ranks]
    assert all(torch.equal(a.nan_to_num(-1), answers[0].nan_to_num(-1)) for a in answers)
    return answers[0].tolist()


def test_equal_replicas_differ_by_nothing() -> None:
    weights = [torch.randn(4, 3), torch.zeros(2), torch.randn(2, dtype=torch.complex64)]
    assert differences(weights, [w.clone() for w in weights]) == [0.0, 0.0, 0.0]


def test_by_how_much() -> None:
    here, there = (
        [torch.tensor([3.0, 4.0]), torch.zeros(1)],
        [torch.tensor([6.0, 8.0]), torch.ones(1)],
    )
    assert differences(here, there) == [0.5, 1.0]


def test_not_finite_on_one_rank_or_on_all() -> None:
    nan, one = [torch.tensor([math.nan])], [torch.tensor([1.0])]
    assert differences(nan, one) == [math.inf]
    assert all(math.isnan(value) for value in differences(nan, nan))


def test_at_first_and_then_now_and_again() -> None:
    replicas = Replicas()
    compared = []
    for step in range(50, 1200, 50):
        if replicas.due(step):
            compared.append(step)
            replicas.compared(step)
    assert compared == [50, 550, 1050]
