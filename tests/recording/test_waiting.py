from __future__ import annotations

import pytest
import torch

from lightning_plateau.recording.waiting import Waiting


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def waiting() -> tuple[Waiting, Clock]:
    clock = Clock()
    return Waiting(torch.device("cpu"), clock), clock


def test_the_first_batch_has_nothing_before_it() -> None:
    watch, clock = waiting()
    clock.now += 60.0
    watch.batch_starts()
    watch.batch_ends()
    assert watch.take() is None


def test_means_of_a_window() -> None:
    watch, clock = waiting()
    for pause in (0.0, 0.2, 0.4):
        clock.now += pause
        watch.batch_starts()
        clock.now += 0.1
        watch.batch_ends()
    assert watch.take() == pytest.approx({"waited": 0.3, "elapsed": 0.4})
    assert watch.take() is None


def test_what_is_interrupted_is_left_out() -> None:
    watch, clock = waiting()
    for step in range(4):
        watch.batch_starts()
        clock.now += 0.1
        watch.batch_ends()
        clock.now += 0.3
        if step == 1:
            watch.interrupt()
            clock.now += 60.0
    assert watch.take() == pytest.approx({"waited": 0.3, "elapsed": 0.4})
