"""An experiment that goes wrong ends cleanly, and says so in one line."""

from __future__ import annotations

import sys
import threading
from collections import deque
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_plateau.experiments.overfit_one_batch import OverfitOneBatch
from tests.digits import Digits
from tests.experiments.conducting import Conducting, assert_bitwise_equal, ending


def out_of_memory() -> Exception:
    return torch.OutOfMemoryError("tried to allocate 20.00 GiB")


class Failing(Digits):
    """Fails where it is repeated: in the training the batches differ."""

    error: Exception = RuntimeError("the buffer is full")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        key = float(batch[0].sum())
        self.times = self.times + 1 if key == getattr(self, "key", None) else 0
        self.key = key
        if self.times == 4:
            raise self.error
        return super().training_step(batch, batch_idx)


class Exhausted(Failing):
    error = out_of_memory()


@pytest.mark.parametrize(
    ("make", "said"),
    [(Failing, "RuntimeError: the buffer is full"), (Exhausted, "OutOfMemoryError: tried")],
)
def test_a_step_that_raises(make: Any, said: str) -> None:
    callback = Conducting([OverfitOneBatch()], at=(5,))
    disturbed, _ = ending(callback, make, steps=12)
    alone, _ = ending(None, make, steps=12)
    assert_bitwise_equal(disturbed, alone)
    [result] = callback.results
    assert result.failure.startswith(said)
    assert result.rows == ()


def test_a_budget_that_is_exceeded() -> None:
    callback = Conducting([OverfitOneBatch()], at=(5,))
    callback.budget_steps = 10.0
    disturbed, _ = ending(callback, Digits, steps=12)
    alone, _ = ending(None, Digits, steps=12)
    assert_bitwise_equal(disturbed, alone)
    [result] = callback.results
    assert result.failure == "it was given up: it needs more than the 10 steps allowed"


class Locked(Digits):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_a_module_that_cannot_be_copied() -> None:
    callback = Conducting([OverfitOneBatch()], at=(5,))
    disturbed, _ = ending(callback, Locked, steps=8)
    alone, _ = ending(None, Locked, steps=8)
    assert_bitwise_equal(disturbed, alone)
    [result] = callback.results
    assert "cannot be copied: TypeError" in result.failure


def test_a_module_that_holds_too_much() -> None:
    class Buffered(Digits):
        def __init__(self) -> None:
            super().__init__()
            self.replay = SimpleNamespace(items=deque(range(20_000)))

    callback = Conducting([OverfitOneBatch()], at=(5,))
    ending(callback, Buffered, steps=8)
    assert callback.results[0].failure == (
        "InseparableError: replay holds 20000 items, too many to copy"
    )


def test_trackers_that_are_called_by_name_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    tracker = ModuleType("wandb")
    tracker.log = lambda values: written.append(values["loss"])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", tracker)

    class Tracked(Digits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            sys.modules["wandb"].log({"loss": float(loss)})
            return loss

    callback = Conducting([OverfitOneBatch()], at=(5,))
    ending(callback, Tracked, steps=8)
    assert callback.results[0].steps > 20
    assert len(written) == 8


KEPT: list[Any] = []


class Reaching(Digits):
    """Reaches itself by a way that a copy does not know."""

    def __init__(self) -> None:
        super().__init__()
        KEPT[:] = [self]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with torch.no_grad():
            KEPT[0].net[0].weight.mul_(1.0)
        return super().training_step(batch, batch_idx)


def test_a_module_that_is_changed_in_spite_of_all() -> None:
    callback = Conducting([OverfitOneBatch()], at=(5,))
    ending(callback, Reaching, steps=8)
    assert "changed the original" in callback.results[0].failure


def test_gradients_that_go_astray_are_put_back() -> None:
    class Straying(Digits):
        def __init__(self) -> None:
            super().__init__()
            KEPT[:] = [self]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            penalty = 0.0 * KEPT[0].net[0].weight.square().sum()
            return super().training_step(batch, batch_idx) + penalty

    callback = Conducting([OverfitOneBatch()], at=(5,))
    disturbed, _ = ending(callback, Straying, steps=8, accumulate_grad_batches=4)
    alone, _ = ending(None, Straying, steps=8, accumulate_grad_batches=4)
    assert_bitwise_equal(disturbed, alone)
    assert "by another name than self" in callback.results[0].failure
