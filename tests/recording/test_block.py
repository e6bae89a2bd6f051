"""The device's rows of each step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from lightning_plateau.recording.block import StepBlock
from lightning_plateau.recording.transfer import Transfer

Rows = dict[str, Any]


def block(*widths: int, capacity: int = 8, first_step: int = 0) -> StepBlock:
    return StepBlock(capacity, widths, torch.device("cpu"), torch.float32, first_step)


def sent(block: StepBlock, losses: Any = None) -> Rows:
    rows: Rows = {}

    def receive(steps: Any, losses: Any, seen: Any, norms: Any, skipped: Any) -> None:
        rows.update(steps=steps, losses=losses, seen=seen, norms=norms, skipped=skipped)

    transfer = Transfer()
    block.send(transfer, receive, losses)
    transfer.send(wait=True)
    return rows


def test_absent_gradients_are_negative_and_the_others_lie_in_their_place() -> None:
    steps = block(4)
    steps.write_gradients(0, torch.tensor([1.0, 3.0]), [0, 2])
    steps.close_row()
    steps.write_gradients(0, None, [])
    steps.close_row()
    assert sent(steps)["norms"].tolist() == [[1.0, -1.0, 3.0, -1.0], [-1.0] * 4]


def test_loss_and_norms_of_a_single_optimizer_are_written_together() -> None:
    steps = block(2)
    norms = steps.write_together(torch.tensor(5.0), [torch.tensor(1.0), torch.tensor(2.0)])
    assert norms is not None
    assert norms.tolist() == [1.0, 2.0]
    steps.close_row()
    assert steps.write_together(torch.tensor(5.0), [torch.tensor(1.0)]) is None
    rows = sent(steps)
    assert rows["losses"].tolist() == [[5.0]]
    assert rows["norms"].tolist() == [[1.0, 2.0]]
    assert block(1, 1).write_together(torch.tensor(5.0), [torch.tensor(1.0)]) is None


def test_several_optimizers_share_a_row() -> None:
    steps = block(2, 3)
    steps.write_loss(0, torch.tensor(5.0))
    steps.write_gradients(0, torch.tensor([1.0, 2.0]), [0, 1])
    steps.write_loss(1, torch.tensor(7.0))
    steps.write_gradients(1, torch.tensor([3.0, 4.0, 5.0]), [0, 1, 2])
    steps.close_row()
    steps.write_loss(1, torch.tensor(8.0))  # only the second one steps
    steps.close_row()
    rows = sent(steps)
    assert rows["norms"][0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert rows["seen"].tolist() == [[True, True], [False, True]]
    assert rows["losses"][1, 1] == 8.0


def test_skipped_as_a_bool_and_as_a_tensor() -> None:
    steps = block(1)
    for skipped in (False, True, torch.tensor(1.0), torch.tensor(0.0), torch.tensor(True)):
        steps.write_skipped(skipped)
        steps.close_row()
    assert sent(steps)["skipped"].tolist() == [0.0, 1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_knows_on_the_cpu_whether_the_row_is_finite(bad: float) -> None:
    steps = block(2)
    assert steps.known_finite
    steps.write_gradients(0, torch.tensor([1.0]), [1])
    assert steps.known_finite
    steps.write_loss(0, torch.tensor(bad))
    assert not steps.known_finite
    steps.close_row()
    assert steps.known_finite


def test_elsewhere_it_cannot_know_without_waiting() -> None:
    steps = StepBlock(2, [1], torch.device("meta"), torch.float32, 0)
    steps.write_loss(0, torch.full((), math.nan, device="meta"))
    assert steps.known_finite


def test_writing_never_reads_the_device() -> None:
    steps = StepBlock(4, [3], torch.device("meta"), torch.float32, 0)
    for present in ([0, 1, 2], [0, 2], []):
        norms = torch.ones(len(present), device="meta") if present else None
        steps.write_gradients(0, norms, present)
        steps.write_loss(0, torch.ones((), device="meta"))
        steps.write_skipped(torch.ones((), device="meta"))
        steps.close_row()


def test_starts_afresh_after_it_was_sent() -> None:
    steps = block(1, capacity=2, first_step=7)
    for value in (1.0, 2.0):
        steps.write_loss(0, torch.tensor(value))
        steps.write_skipped(True)
        steps.close_row()
    assert steps.full
    assert sent(steps)["steps"].tolist() == [7, 8]
    assert not steps.full
    steps.close_row()
    rows = sent(steps)
    assert rows["steps"].tolist() == [9]
    assert not rows["seen"].any()
    assert not rows["skipped"].any()


def test_only_losses_are_averaged_over_the_ranks() -> None:
    steps = block(1)
    steps.write_loss(0, torch.tensor(4.0))
    steps.write_gradients(0, torch.tensor([4.0]), [0])
    steps.close_row()
    rows = sent(steps, steps.losses / 2)
    assert (rows["losses"].item(), rows["norms"].item()) == (2.0, 4.0)


def test_what_was_sent_is_not_overwritten_by_later_rows() -> None:
    steps, transfer, arrived = block(1), Transfer(), []
    steps.write_loss(0, torch.tensor(1.0))
    steps.close_row()
    steps.send(transfer, lambda *rows: arrived.append(rows[1]), None)
    steps.write_loss(0, torch.tensor(9.0))
    transfer.send(wait=True)
    np.testing.assert_array_equal(arrived[0], [[1.0]])
