"""The loss of an optimizer step."""

from __future__ import annotations

import pytest
import torch

from lightning_plateau.recording.probes.loss import step_loss


def test_one_loss_is_itself() -> None:
    assert float(step_loss([torch.tensor([2.5])])) == 2.5


def test_sum_factor_and_scale() -> None:
    losses = [torch.tensor(100.0), torch.tensor(300.0)]
    scale = torch.tensor([50.0])
    assert float(step_loss(losses, 0.5, scale)) == pytest.approx(4.0)


def test_a_loss_of_many_elements_counts_with_its_mean() -> None:
    assert float(step_loss([torch.tensor([1.0, 3.0])])) == 2.0


def test_takes_no_part_in_backward() -> None:
    assert not step_loss([torch.tensor(1.0, requires_grad=True)] * 2).requires_grad


def test_never_reads_the_device() -> None:
    losses = [torch.ones((), device="meta"), torch.ones(1, device="meta")]
    assert step_loss(losses, 0.5, torch.ones(1, device="meta")).is_meta
