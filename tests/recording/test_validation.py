"""Which value of a validation is its loss, and its mean where none is logged."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_plateau.recording.validation import ValidationLoss, loss_name


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train_loss", "val_loss"], "val_loss"),
        (["val_loss", "val_loss/dataloader_idx_1"], "val_loss"),
        (["valid/total_loss"], "valid/total_loss"),
        (["Loss/Validation"], "Loss/Validation"),
        (["validationLoss"], "validationLoss"),
        (["eval-loss", "loss"], "eval-loss"),
        (["dev.nll_loss"], "dev.nll_loss"),
        (["val_celoss"], "val_celoss"),
        (["train_loss", "loss", "val_acc"], None),
        (["value_loss", "policy_loss"], None),  # actor and critic
        (["interval_loss", "retrieval_loss", "devil_loss", "invalid_loss"], None),
        ([], None),
    ],
)
def test_loss_name(names: list[str], expected: str | None) -> None:
    assert loss_name(dict.fromkeys(names)) == expected


def test_the_users_monitor_wins_where_it_is_a_loss() -> None:
    names = dict.fromkeys(["val_loss", "val_loss_coarse", "val_acc"])
    assert loss_name(names, "val_loss_coarse") == "val_loss_coarse"
    assert loss_name(names, "val_acc") == "val_loss"


def test_mean_is_weighted_by_batch_size() -> None:
    loss = ValidationLoss()
    loss.update(torch.tensor(1.0), 30)
    loss.update({"loss": torch.tensor([4.0]), "other": 1}, 10)
    loss.update(None, 10)
    loss.update("text", 10)
    assert loss.compute() == pytest.approx(1.75)
    loss.reset()
    assert loss.compute() is None


def test_a_validation_that_is_not_finite_says_so() -> None:
    loss = ValidationLoss()
    loss.update(torch.tensor(1.0), 8)
    loss.update(torch.tensor(math.nan), 8)
    assert math.isnan(loss.compute() or 0.0)


def test_updating_never_reads_the_device() -> None:
    loss = ValidationLoss()
    loss.update(torch.ones((), device="meta"), 8)
    loss.update(torch.ones((), device="meta"), 8)


def test_half_precision_sums_do_not_overflow() -> None:
    loss = ValidationLoss()
    for _ in range(10):
        loss.update(torch.tensor(30_000.0, dtype=torch.float16), 64)
    assert loss.compute() == pytest.approx(30_000.0)
